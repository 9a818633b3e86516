package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/consul/connect"
)

// serveHTTP serves HTTP on a free port; every answer is the SPIFFE ID of the caller.
func (s *service) serveHTTP() (answer, error) {
	l, err := s.listen()
	if err != nil {
		return answer{}, err
	}
	server := &http.Server{
		TLSConfig: s.ServerTLSConfig(),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.TLS.PeerCertificates[0].URIs[0].String())
		}),
	}
	go server.ServeTLS(l, "", "")
	return answer{Address: l.Addr().String()}, nil
}

// serveRaw says hello to every caller that is let in.
func (s *service) serveRaw() (answer, error) {
	l, err := s.listen()
	if err != nil {
		return answer{}, err
	}
	go func() {
		l := tls.NewListener(l, s.ServerTLSConfig())
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go greet(conn)
		}
	}()
	return answer{Address: l.Addr().String()}, nil
}

// greet waits for the caller to close first, so that the greeting is not lost to a reset.
func greet(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, "hello"); err == nil {
		io.Copy(io.Discard, conn)
	}
}

func (s *service) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		s.listeners = append(s.listeners, l)
	}
	return l, err
}

// peer says who is at the other end of a connection of the SDK, in the SDK's own words.
func peer(conn net.Conn) (uri, serial string) {
	if id, err := connect.CertURIFromConn(conn); err == nil {
		uri = id.URI().String()
	}
	if state, ok := tlsState(conn); ok && len(state.PeerCertificates) > 0 {
		serial = hexSerial(state.PeerCertificates[0].SerialNumber)
	}
	return uri, serial
}

func tlsState(conn net.Conn) (tls.ConnectionState, bool) {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return t.ConnectionState(), true
}
