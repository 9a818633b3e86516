package connectd

import (
	"bytes"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Server serves HTTP/2 and HTTP/1.1 to the services that the policy allows,
// and judges every request of those whose intention has permissions.
type Server struct {
	source *Source
	http   *http.Server
}

// HTTPServer makes a server that owns both ends, the TLS configuration and the
// handling of requests, so that no request reaches the handler unjudged. The
// changes may set limits and timeouts of the server; what decides is set after
// them.
func HTTPServer(s *Source, handler http.Handler, changes ...func(*http.Server)) *Server {
	h := &http.Server{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	for _, change := range changes {
		change(h)
	}
	h.Handler = Middleware(s, handler)
	h.TLSConfig = nil
	h.TLSNextProto = nil
	connContext := h.ConnContext
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		if secure, ok := c.(*tls.Conn); ok {
			if ours, ok := secure.NetConn().(*carrier); ok {
				return context.WithValue(ctx, carrierKey{}, ours)
			}
		}
		return ctx
	}
	if h.ErrorLog == nil {
		h.ErrorLog = log.New(serverLog{s.options.logger}, "", 0)
	}
	return &Server{source: s, http: h}
}

// carrierKey is where a request's context has the connection that we made.
type carrierKey struct{}

// Serve accepts connections until Shutdown or Close, and then returns
// http.ErrServerClosed. The listener is one of the system, without TLS.
func (v *Server) Serve(l net.Listener) error {
	return v.http.Serve(&listener{Listener: l, source: v.source, config: v.source.serverConfig(true)})
}

// ListenAndServe listens on a TCP address.
func (v *Server) ListenAndServe(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return v.Serve(l)
}

// Shutdown lets requests finish; see http.Server.
func (v *Server) Shutdown(ctx context.Context) error { return v.http.Shutdown(ctx) }

// Close ends everything at once.
func (v *Server) Close() error { return v.http.Close() }

// Middleware passes the requests on that the policy allows. It judges only
// what came over a connection of HTTPServer for the same source: of any other
// nobody knows who the peer is, so all its requests are refused.
func Middleware(s *Source, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ours := r.Context().Value(carrierKey{}).(*carrier)
		if !ours || c.source != s {
			refuse(w, CodePeerRefused, "this connection was not made by connectd's HTTPServer, so nobody knows whose it is")
			return
		}
		held := c.held.Load()
		if held == nil || held.revoked.Load() {
			w.Header().Set("Connection", "close")
			refuse(w, CodePeerRefused, "this connection is no longer allowed and is being closed")
			return
		}
		d := s.judgeRequest(held, r)
		s.count(held.peer.ID, d, 7)
		if !d.Allowed {
			s.denials.note(denialKey{held.peer.ID.String(), CodePeerRefused, d.Reason},
				"a request was refused; run: connectd authorize --source "+held.peer.ID.Service.String()+" --destination "+
					s.service.String()+" --method "+r.Method+" --path PATH")
			refuse(w, CodePeerRefused, "the intentions of "+s.service.String()+" do not allow this request ("+d.Reason+")")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// judgeRequest decides on a request as it arrived, before anything rewrote it.
func (s *Source) judgeRequest(c *connection, r *http.Request) Decision {
	request := intentions.Request{Method: r.Method, Path: r.RequestURI, Host: r.Host, Headers: r.Header}
	return s.Snapshot().decideID(c.peer.ID, &request)
}

// refuse answers 403 in the form of every error on connectd's socket.
func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	// Both are our own words, without anything that JSON would escape.
	_, _ = w.Write([]byte(`{"error":{"code":"` + code + `","message":"` + message + `"}}`))
}

// serverLog passes on what net/http says, except for failed handshakes: those
// were logged with their cause, once and not each.
type serverLog struct{ logger *slog.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	if !bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		l.logger.Warn(strings.TrimSpace(string(line)))
	}
	return len(line), nil
}
