package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/intentions"
)

// Service is a service that accepts or makes connections of the mesh.
type Service struct {
	name string
	// source is nil for a development service, which has static instead.
	source *connectd.Source
	static *static
	protos []string
	ready  chan struct{}

	stop    context.CancelFunc
	waiting sync.WaitGroup
}

// Config is what NewServiceWithConfig takes.
type Config struct {
	// Client is accepted for compatibility. Identity and decisions come from
	// the daemon at CONNECTD_SOCKET, and discovery too where a host is dialed
	// by name; only a ConsulResolver asks through its own client.
	Client *api.Client
	// Logger is hclog's default one if nil.
	Logger hclog.Logger
	// ServerNextProtos is what servers offer in ALPN; nil is h2 and http/1.1.
	ServerNextProtos []string
}

// NewService starts a service. It neither waits nor fails while the daemon is
// away: until there is a leaf, nothing can be accepted or dialed. Close ends
// it.
func NewService(serviceName string, client *api.Client) (*Service, error) {
	return NewServiceWithConfig(serviceName, Config{Client: client})
}

// NewServiceWithLogger is NewService with a logger.
func NewServiceWithLogger(serviceName string, client *api.Client, logger hclog.Logger) (*Service, error) {
	return NewServiceWithConfig(serviceName, Config{Client: client, Logger: logger})
}

// NewServiceWithConfig is NewService with more to say.
func NewServiceWithConfig(serviceName string, config Config) (*Service, error) {
	if config.Logger == nil {
		config.Logger = hclog.Default()
	}
	source, err := connectd.OpenSource(serviceName, connectd.WithLogger(slog.New(logAdapter{logger: config.Logger})))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Service{
		name: serviceName, source: source, protos: config.ServerNextProtos, ready: make(chan struct{}), stop: stop,
	}
	config.Logger.Info("connect: identity and decisions come from connectd; address, token and TLS settings of the "+
		"Consul client are used by a ConsulResolver alone", "service", serviceName, "socket", source.Client().Socket())
	s.waiting.Go(func() { s.waitReady(ctx) })
	return s, nil
}

// waitReady closes the channel of ReadyWait when there is a leaf.
func (s *Service) waitReady(ctx context.Context) {
	for {
		changed := s.source.Changed()
		if s.Ready() {
			close(s.ready)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Name is the name of the service.
func (s *Service) Name() string { return s.name }

// Ready reports whether there is a leaf to present and a bundle to verify with.
func (s *Service) Ready() bool {
	if s.static != nil {
		return true
	}
	_, err := s.source.Snapshot().Certificate()
	return err == nil
}

// ReadyWait returns a channel that is closed once the service is ready for the
// first time. If it is already, the channel is closed already.
func (s *Service) ReadyWait() <-chan struct{} { return s.ready }

// Close ends the service. What it made refuses everything from then on.
func (s *Service) Close() error {
	if s.source == nil {
		return nil
	}
	s.stop()
	s.waiting.Wait()
	s.source.Close()
	return nil
}

// Source is the one below, for what Consul's SDK has no words for: HTTPServer,
// which judges requests, or decisions on anything else.
func (s *Service) Source() *connectd.Source { return s.source }

// ServerTLSConfig is for any server of TLS. It follows changes by itself, and
// closes connections whose source is no longer allowed.
func (s *Service) ServerTLSConfig() *tls.Config {
	if s.static != nil {
		return s.static.server(s.protos)
	}
	c := connectd.ServerTLSConfig(s.source)
	if s.protos == nil {
		return c
	}
	c.NextProtos = s.protos
	each := c.GetConfigForClient
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		one, err := each(hello)
		if err == nil {
			// It was made for this handshake alone.
			one.NextProtos = s.protos
		}
		return one, err
	}
	return c
}

// Dial connects to the instance that the resolver finds, and accepts exactly
// the identity that it names. It is tried once.
func (s *Service) Dial(ctx context.Context, resolver Resolver) (net.Conn, error) {
	address, uri, err := resolver.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	if uri == nil {
		return nil, errors.New("connect: the resolver names no identity to expect")
	}
	if s.static != nil {
		return s.static.dial(ctx, address, uri)
	}
	now := s.source.Snapshot()
	if now == nil {
		return nil, fmt.Errorf("connect: the service %s has no leaf yet: %w", s.name, notReady(s.source.Err()))
	}
	id, err := expected(uri)
	if err != nil {
		return nil, err
	}
	id.TrustDomain = now.TrustDomain()
	conn, err := connectd.NewDialer(s.source).DialAddress(ctx, address, id.String())
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func notReady(err error) error {
	if err == nil {
		return errors.New("the first answer of the daemon is on its way")
	}
	return err
}

// expected reads an identity. Its trust domain may be missing or a
// placeholder, as for Consul's SDK: ours takes its place.
func expected(uri CertURI) (intentions.ID, error) {
	u := *uri.URI()
	u.Host = "any.consul"
	id, err := intentions.ParseID(u.String())
	if err != nil {
		return id, fmt.Errorf("connect: the expected identity %.200q is %w", uri.URI().String(), err)
	}
	return id, nil
}

// HTTPDialTLS is for http.Transport.DialTLS: addr is a name of Consul's DNS
// with a port, such as web.service.consul:443.
func (s *Service) HTTPDialTLS(_, addr string) (net.Conn, error) {
	return s.dialTLS(context.Background(), addr)
}

// HTTPDialTLSContext is for http.Transport.DialTLSContext.
func (s *Service) HTTPDialTLSContext(ctx context.Context, _, addr string) (net.Conn, error) {
	return s.dialTLS(ctx, addr)
}

func (s *Service) dialTLS(ctx context.Context, addr string) (net.Conn, error) {
	to, err := destination(addr)
	if err != nil {
		return nil, err
	}
	if s.static != nil {
		return nil, errors.New("connect: a development service finds nobody; dial with a StaticResolver")
	}
	d := connectd.NewDialer(s.source)
	// A transport that was given a way to dial speaks HTTP/2 only if it was
	// told to, whatever the connection agrees on.
	d.NextProtos = []string{"http/1.1"}
	conn, err := d.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// HTTPClient reaches services by their names in Consul's DNS, over https://
// alone. Its Transport is an *http.Transport.
func (s *Service) HTTPClient() *http.Client {
	if s.static != nil {
		return &http.Client{Transport: &http.Transport{DialTLSContext: s.HTTPDialTLSContext}}
	}
	return &http.Client{Transport: connectd.HTTPTransport(connectd.NewDialer(s.source))}
}
