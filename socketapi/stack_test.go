package socketapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// setup says how a stack differs from one on the development authority where
// everything is allowed.
type setup struct {
	source    cache.Source
	admission socketapi.Admission
	upstream  socketapi.Upstream
	config    cache.Config
	admin     bool
	// administration answers on the admin socket.
	administration socketapi.Administration
	// piped stands for a socket in a bubble, where real ones are not waited for.
	piped bool
}

// stack is a cache with a server over it, as the daemon puts them together.
type stack struct {
	t        testing.TB
	contract *contract
	server   *socketapi.Server
	client   *http.Client
}

func (c *contract) start(t testing.TB, s setup) *stack {
	t.Helper()
	s.config.Source = s.source
	if s.source == nil {
		s.config.Source = newSource(t, devca.Config{Intentions: samples, Services: localServices})
	}
	snapshots, err := cache.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if s.admission == nil {
		s.admission = admit(func(g socketapi.Grant, x intentions.Service) bool { return x.Name != "foreign" })
	}
	config := socketapi.Config{
		Cache: snapshots, Admission: s.admission, Upstream: s.upstream, Version: "test", UpstreamName: "development authority",
		Administration: s.administration,
	}
	k := &stack{t: t, contract: c, server: socketapi.New(config)}
	if s.admin {
		k.server = socketapi.NewAdmin(config)
	}
	listener, dial := listen(t, s.piped)
	k.client = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: s.piped}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- snapshots.Run(ctx) }()
	go func() { ended <- k.server.Serve(listener) }()
	t.Cleanup(func() {
		k.client.CloseIdleConnections()
		cancel()
		k.stop()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Errorf("stack ended with %v", err)
		}
	})
	return k
}

// stop ends the server, once.
func (k *stack) stop() {
	if k.server == nil {
		return
	}
	if err := k.server.Shutdown(context.Background()); err != nil {
		k.t.Errorf("shutdown: %v", err)
	}
	k.server = nil
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func listen(t testing.TB, piped bool) (net.Listener, dialer) {
	t.Helper()
	if piped {
		p := &pipe{conns: make(chan net.Conn), closed: make(chan struct{})}
		return p, p.dial
	}
	// The directory of t.TempDir can be longer than a socket path may be.
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := socketapi.Listen(t.Context(), path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	return l, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
}

// pipe is a listener for connections inside the process.
type pipe struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipe) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error   { close(p.closed); return nil }
func (p *pipe) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// admit is an Admission that looks at grant and service alone.
type admit func(socketapi.Grant, intentions.Service) bool

func (a admit) Admit(_ socketapi.Peer, g socketapi.Grant, s intentions.Service) bool { return a(g, s) }

// withholding is a development authority that leaves some services without
// material, fails some lookups, and falls silent when told.
type withholding struct {
	*devca.Authority
	names      []string
	conditions []cache.Condition
	lookups    map[string]error
	silent     chan struct{}
}

func newSource(t testing.TB, cfg devca.Config) *withholding {
	t.Helper()
	a, err := devca.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &withholding{Authority: a, silent: make(chan struct{})}
}

func (w *withholding) Run(ctx context.Context, feed cache.Feed) error {
	if err := feed.Publish(ctx, cache.Update{Conditions: w.conditions}); err != nil {
		return nil
	}
	speaking, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-w.silent:
			stop()
		case <-speaking.Done():
		}
	}()
	err := w.Authority.Run(speaking, withheld{feed, w.names})
	<-ctx.Done()
	return err
}

func (w *withholding) Discover(ctx context.Context, l cache.Lookup, have *cache.Discovered) (*cache.Discovered, error) {
	if err := w.lookups[l.Service.Name]; err != nil {
		return nil, err
	}
	return w.Authority.Discover(ctx, l, have)
}

type withheld struct {
	cache.Feed
	names []string
}

func (w withheld) Wanted() ([]cache.Want, <-chan struct{}) {
	wants, changed := w.Feed.Wanted()
	return slices.DeleteFunc(slices.Clone(wants), func(x cache.Want) bool {
		return slices.Contains(w.names, x.Service.Name)
	}), changed
}

// mute is a source that only has something to complain of.
type mute []cache.Condition

func (m mute) Run(ctx context.Context, feed cache.Feed) error {
	_ = feed.Publish(ctx, cache.Update{Conditions: m})
	<-ctx.Done()
	return nil
}

func refused(watch string, s intentions.Service) cache.Condition {
	return cache.Condition{Watch: watch, Service: s, Failure: &cache.Failure{
		Kind: cache.FailureRefused, Message: "the token lacks service:write",
	}}
}

// upstream answers prepared queries and live reads.
type upstream struct {
	status int
	body   string
	rows   string
	err    error
}

// Pass puts the datacenter that it is asked for in the place of "?dc".
func (u upstream) Pass(_ context.Context, _ string, q url.Values) (int, http.Header, []byte, error) {
	return u.status, http.Header{}, []byte(strings.ReplaceAll(u.body, "?dc", q.Get("dc"))), u.err
}

func (u upstream) LiveIntentions(context.Context, intentions.Service) (json.RawMessage, error) {
	return json.RawMessage(u.rows), u.err
}
