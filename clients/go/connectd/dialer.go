package connectd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Dialer makes connections to services. What it makes is followed, and closed
// when the trust bundle no longer vouches for the other end.
type Dialer struct {
	source *Source
	// Timeout bounds discovery and all attempts together.
	Timeout time.Duration
	// Instances is how many instances are tried at most.
	Instances int
	// NextProtos is what is offered in ALPN; by default nothing, because a
	// connection may carry any protocol.
	NextProtos []string
}

const (
	defaultDialTimeout = 10 * time.Second
	defaultInstances   = 4
)

// NewDialer returns a dialer with the usual bounds.
func NewDialer(s *Source) *Dialer {
	return &Dialer{source: s, Timeout: defaultDialTimeout, Instances: defaultInstances}
}

// Destination is a service as an application names it.
type Destination struct {
	// Service is a name or partition/namespace/name.
	Service string
	// Query is the name of a prepared query, in the place of a service.
	Query string
	// Datacenter is empty for our own.
	Datacenter string
}

// String describes the destination for messages.
func (d Destination) String() string {
	if d.Query != "" {
		return "query " + d.Query
	}
	return d.Service
}

// DialContext finds healthy instances of a service and connects to one of them
// in random order, until one answers with the SPIFFE ID of that service. The
// destination is a service, or a name under .consul as in ParseHost.
func (d *Dialer) DialContext(ctx context.Context, destination string) (*tls.Conn, error) {
	to, err := ParseHost(destination)
	if err != nil {
		to = Destination{Service: destination}
	}
	return d.Dial(ctx, to)
}

// Dial is DialContext for a destination in its parts.
func (d *Dialer) Dial(ctx context.Context, to Destination) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Timeout, defaultDialTimeout))
	defer cancel()
	list, err := d.source.discover(ctx, to)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, &Error{Code: CodeNotReady, Message: fmt.Sprintf(
			"there is no healthy instance of %s; run: connectd status, and look at its checks in Consul", to)}
	}
	order := rand.Perm(len(list))
	order = order[:min(len(order), max(1, d.Instances))]
	var failures []error
	for i, n := range order {
		conn, err := d.attempt(ctx, list[n], len(order)-i)
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// attempt gives an instance its share of the time that is left.
func (d *Dialer) attempt(ctx context.Context, i Instance, left int) (*tls.Conn, error) {
	if until, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(until)/time.Duration(left))
		defer cancel()
	}
	return d.DialAddress(ctx, net.JoinHostPort(i.Address, strconv.Itoa(i.Port)), i.SPIFFEID)
}

// DialAddress connects to a TCP address where exactly one service is expected:
// a SPIFFE ID, or a service in our own datacenter.
func (d *Dialer) DialAddress(ctx context.Context, address, destination string) (*tls.Conn, error) {
	want, err := expectation(destination)
	if err != nil {
		return nil, err
	}
	now := d.source.Snapshot()
	leaf, err := now.Certificate()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Timeout, defaultDialTimeout))
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := carry(raw, d.source)
	config := d.source.clientConfig(now, leaf, want.in(now), c)
	config.NextProtos = d.NextProtos
	c.secure = tls.Client(c, config)
	if err := c.secure.HandshakeContext(ctx); err != nil {
		_ = c.secure.Close()
		return nil, fmt.Errorf("connect to %s at %s: %w", want.Service, address, Refusal(err))
	}
	return c.secure, nil
}

// discovered keeps the last answers, for the time that the daemon is away. Its
// zero value is empty.
type discovered struct {
	mu   sync.Mutex // guards last
	last map[Destination][]Instance
}

// maxDiscovered bounds how many destinations are remembered.
const maxDiscovered = 1000

// discover asks the daemon, and falls back to its last answer if it is away.
func (s *Source) discover(ctx context.Context, to Destination) ([]Instance, error) {
	service := to.Service
	if to.Query != "" {
		// The route wants a service in its path, and a query finds its own.
		service = to.Query
	}
	found, err := s.client.Discover(ctx, service, DiscoverOptions{Datacenter: to.Datacenter, Query: to.Query})
	s.found.mu.Lock()
	defer s.found.mu.Unlock()
	if err != nil {
		if last := s.found.last[to]; last != nil && errorCode(err) == CodeUnreachable {
			return last, nil
		}
		return nil, err
	}
	for i := range found.Instances {
		if err := found.Instances[i].check(to); err != nil {
			return nil, err
		}
	}
	if s.found.last == nil || len(s.found.last) >= maxDiscovered {
		s.found.last = map[Destination][]Instance{}
	}
	s.found.last[to] = found.Instances
	return found.Instances, nil
}

// check refuses an instance of another service than the one asked for: the
// SPIFFE ID in it is what the handshake will expect.
func (i *Instance) check(to Destination) error {
	id, err := intentions.ParseID(i.SPIFFEID)
	if err != nil || i.Port < 1 || i.Port > 65535 || i.Address == "" {
		return invalidAnswer("an instance of %s cannot be read; are daemon and client of the same release?", to)
	}
	if to.Query != "" {
		return nil
	}
	// Consul finds names in any letter case.
	want, err := parseService(to.Service)
	if id.Service.Name, want.Name = strings.ToLower(id.Service.Name), strings.ToLower(want.Name); err != nil ||
		!sameService(id.Service, want) {
		return invalidAnswer("an instance of %s is said to be %.80q", to, i.SPIFFEID)
	}
	return nil
}
