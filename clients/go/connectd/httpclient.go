package connectd

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/connectd/connectd/intentions"
)

// HTTPClient reaches services by the names of ParseHost, over HTTPS alone:
// https://db.service.consul/. It follows no proxy, and every handshake accepts
// the one service that was named.
func HTTPClient(s *Source) *http.Client {
	return &http.Client{Transport: &roundTripper{HTTPTransport(NewDialer(s))}}
}

// HTTPTransport is the transport of HTTPClient without its translation of
// errors, for applications that set more of it.
func HTTPTransport(d *Dialer) *http.Transport {
	own := *d
	own.NextProtos = httpProtos()
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, badRequest("%.80q is no host and port", address)
			}
			to, err := ParseHost(host)
			if err != nil {
				return nil, err
			}
			conn, err := own.Dial(ctx, to)
			if err != nil {
				return nil, err
			}
			if place, ok := ctx.Value(dialedKey{}).(*atomic.Pointer[tls.Conn]); ok {
				place.Store(conn)
			}
			return conn, nil
		},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, badRequest("services are reached over https:// alone; use another client for anything else")
		},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}
}

// roundTripper gives the refusal by the other side its code: in TLS 1.3 it
// comes only with the first read, and net/http may tell of its consequences
// instead.
type roundTripper struct{ *http.Transport }

func (r *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	var dialed atomic.Pointer[tls.Conn]
	resp, err := r.Transport.RoundTrip(req.WithContext(context.WithValue(req.Context(), dialedKey{}, &dialed)))
	if err == nil {
		return resp, nil
	}
	if conn := dialed.Load(); conn != nil && req.Context().Err() == nil {
		if why := lastError(conn); why != nil {
			return nil, why
		}
	}
	return nil, Refusal(err)
}

// dialedKey is where a request's context has a place for the connection that
// was made for it.
type dialedKey struct{}

// lastError returns the refusal that ended a connection, if one did. Only a
// connection that is closed is asked: TLS remembers what ended it, and nothing
// is read that belongs to somebody else.
func lastError(conn *tls.Conn) error {
	c, ours := conn.NetConn().(*carrier)
	if !ours {
		return nil
	}
	over := time.NewTimer(lingerFor)
	defer over.Stop()
	select {
	case <-c.closed:
	case <-over.C:
		return nil
	}
	_, err := conn.Read(make([]byte, 1))
	if why := Refusal(err); why != err {
		return why
	}
	return nil
}

// ParseHost reads a name of Consul's DNS as the destination it stands for:
// NAME.service[.DATACENTER].consul or NAME.query[.DATACENTER].consul. Nothing
// is asked of any DNS.
func ParseHost(host string) (Destination, error) {
	wrong := badRequest("%.120q is not a service: use NAME.service.consul or NAME.query.consul, with .DATACENTER before "+
		".consul for another one; use another client for anything else", host)
	parts := strings.Split(host, ".")
	if len(parts) < 3 || len(parts) > 4 || !strings.EqualFold(parts[len(parts)-1], "consul") {
		return Destination{}, wrong
	}
	for _, part := range parts {
		if !intentions.ValidName(part) {
			return Destination{}, wrong
		}
	}
	var to Destination
	if len(parts) == 4 {
		to.Datacenter = parts[2]
	}
	switch strings.ToLower(parts[1]) {
	case "service":
		to.Service = parts[0]
	case "query":
		to.Query = parts[0]
	default:
		return Destination{}, wrong
	}
	return to, nil
}
