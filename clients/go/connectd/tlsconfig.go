package connectd

import (
	"crypto/tls"
	"strings"

	"github.com/connectd/connectd/intentions"
)

// ServerTLSConfig is for any server of TLS: it presents the current leaf,
// verifies the peer against the current bundle and asks the policy, all from
// one snapshot. It cannot see requests, so an intention with permissions
// denies: HTTPServer is for those.
//
// Connections are followed through what TLS runs over. A revoked one is closed
// there, without a farewell, if that is a socket of the system; see Listen for
// a listener that says goodbye.
func ServerTLSConfig(s *Source) *tls.Config { return s.serverConfig(false) }

func (s *Source) serverConfig(judges bool) *tls.Config {
	// Whoever takes the callback away is left with a configuration that
	// refuses as much.
	outer := s.baseConfig()
	outer.ClientAuth = tls.RequireAnyClientCert
	outer.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Snapshot().Certificate() }
	outer.VerifyConnection = func(state tls.ConnectionState) error {
		return (&handshake{source: s, snapshot: s.Snapshot()}).verify(state)
	}
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		now := s.Snapshot()
		leaf, err := now.Certificate()
		if err != nil {
			s.noteFailure(Peer{Address: hello.Conn.RemoteAddr()}, err)
			return nil, err
		}
		inner := s.baseConfig()
		inner.ClientAuth = tls.RequireAnyClientCert
		inner.Certificates = []tls.Certificate{*leaf}
		inner.VerifyConnection = (&handshake{source: s, snapshot: now, judges: judges, conn: hello.Conn}).verify
		return inner, nil
	}
	return outer
}

// baseConfig is what both ends have in common. Sessions are not resumed: a
// ticket would keep a certificate in use that the peer has replaced.
func (s *Source) baseConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             httpProtos(),
		SessionTicketsDisabled: true,
	}
}

// httpProtos is what both ends of HTTP offer. A peer that offers nothing is
// served as well.
func httpProtos() []string { return []string{"h2", "http/1.1"} }

// ClientTLSConfig is for any client of TLS that reaches one destination: a
// SPIFFE ID, or a service in our own datacenter by its name or
// partition/namespace/name. The handshake fails unless exactly that service
// answers. Such connections are not followed after the handshake, because
// nobody tells what TLS runs over: Dialer is for those that should be.
func ClientTLSConfig(s *Source, destination string) (*tls.Config, error) {
	want, err := expectation(destination)
	if err != nil {
		return nil, err
	}
	c := s.baseConfig()
	// The name in the certificate is a SPIFFE ID, which crypto/tls does not
	// compare: VerifyConnection does all of it.
	c.InsecureSkipVerify = true
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.Snapshot().Certificate() }
	c.VerifyConnection = func(state tls.ConnectionState) error {
		now := s.Snapshot()
		id := want.in(now)
		return (&handshake{source: s, snapshot: now, expected: &id}).verify(state)
	}
	return c, nil
}

// clientConfig is for one handshake, which reads one snapshot.
func (s *Source) clientConfig(now *Snapshot, leaf *tls.Certificate, expected intentions.ID, conn *carrier) *tls.Config {
	c := s.baseConfig()
	c.InsecureSkipVerify = true
	c.Certificates = []tls.Certificate{*leaf}
	c.VerifyConnection = (&handshake{source: s, snapshot: now, expected: &expected, conn: conn}).verify
	return c
}

// expected is who has to answer: a whole SPIFFE ID, or a service in the trust
// domain and datacenter that a snapshot is of.
type expected intentions.ID

func expectation(destination string) (expected, error) {
	if strings.Contains(destination, "://") {
		id, err := intentions.ParseID(destination)
		if err != nil {
			return expected{}, badRequest("%.80q is %v", destination, err)
		}
		return expected(id), nil
	}
	service, err := parseService(destination)
	return expected{Service: service}, err
}

// in fills what was left open from a snapshot. Without one the result is no
// service's ID.
func (e expected) in(now *Snapshot) intentions.ID {
	id := intentions.ID(e)
	if id.TrustDomain == "" && now != nil {
		id.TrustDomain, id.Datacenter = now.bundle.trustDomain, now.service.Datacenter
	}
	return id
}
