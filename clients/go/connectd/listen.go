package connectd

import (
	"crypto/tls"
	"net"
)

// Listen makes a listener of TLS from one of the system: it accepts those that
// the policy allows, and says goodbye to those that it no longer allows. What
// it accepts is a *tls.Conn. Requests are not judged: HTTPServer does that.
func Listen(s *Source, inner net.Listener) net.Listener {
	return &listener{Listener: inner, source: s, config: s.serverConfig(false)}
}

type listener struct {
	net.Listener
	source *Source
	config *tls.Config
}

// Accept returns a connection before its handshake, which the first use of it
// makes.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := carry(conn, l.source)
	c.secure = tls.Server(c, l.config)
	return c.secure, nil
}
