package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// static is the identity of a development service: it never changes, and
// nobody decides who may connect.
type static struct{ config *tls.Config }

// NewDevServiceFromCertFiles makes a service from files, for development: the
// chain of a peer is verified, and every source is allowed.
func NewDevServiceFromCertFiles(serviceID string, logger hclog.Logger, caFile, certFile, keyFile string) (*Service, error) {
	roots, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	leaf, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, fmt.Errorf("connect: %s holds no certificate", caFile)
	}
	return NewDevServiceWithTLSConfig(serviceID, logger, &tls.Config{Certificates: []tls.Certificate{leaf}, RootCAs: pool, ClientCAs: pool})
}

// NewDevServiceWithTLSConfig makes a service from a configuration with a
// certificate and RootCAs, for development: every source is allowed.
func NewDevServiceWithTLSConfig(serviceName string, logger hclog.Logger, tlsCfg *tls.Config) (*Service, error) {
	if tlsCfg == nil || tlsCfg.RootCAs == nil {
		return nil, errors.New("connect: a development service needs a configuration with RootCAs")
	}
	if logger != nil {
		logger.Warn("connect: development service: every source with a certificate is allowed", "service", serviceName)
	}
	s := &Service{name: serviceName, static: &static{tlsCfg.Clone()}, ready: make(chan struct{})}
	close(s.ready)
	return s, nil
}

func (s *static) server(protos []string) *tls.Config {
	c := s.config.Clone()
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if c.ClientCAs == nil {
		c.ClientCAs = c.RootCAs
	}
	c.NextProtos = []string{"h2", "http/1.1"}
	if protos != nil {
		c.NextProtos = protos
	}
	return c
}

func (s *static) dial(ctx context.Context, address string, want CertURI) (net.Conn, error) {
	c := s.config.Clone()
	// The name in the certificate is a SPIFFE ID, which crypto/tls does not
	// compare: VerifyConnection does all of it.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(state tls.ConnectionState) error { return s.verify(state.PeerCertificates, want) }
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func (s *static) verify(chain []*x509.Certificate, want CertURI) error {
	got, err := certURI(chain)
	if err != nil {
		return err
	}
	options := x509.VerifyOptions{Roots: s.config.RootCAs, Intermediates: x509.NewCertPool(), CurrentTime: time.Now()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(options); err != nil {
		return err
	}
	u := *want.URI()
	u.Host = got.URI().Host
	if !strings.EqualFold(u.String(), got.URI().String()) {
		return fmt.Errorf("connect: %s answered where %s was expected", got.URI(), want.URI())
	}
	return nil
}
