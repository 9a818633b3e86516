package connectd

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache/devca/entries"
)

const greeting = "hello\n"

// greet serves a greeting over a listener of TLS until the test ends, and
// keeps the connections open.
func greet(t testing.TB, l net.Listener) string {
	t.Helper()
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				if _, err := conn.Write([]byte(greeting)); err == nil {
					_, _ = io.Copy(io.Discard, conn)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); open.Wait() })
	return l.Addr().String()
}

func localListener(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// heard reads the greeting: in TLS 1.3 a refusal shows only there.
func heard(conn net.Conn, err error) error {
	if err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = io.ReadFull(conn, make([]byte, len(greeting)))
	_ = conn.SetReadDeadline(time.Time{})
	return Refusal(err)
}

// try shakes hands and hangs up.
func try(s *Source, address, destination string) error {
	conn, err := NewDialer(s).DialAddress(context.Background(), address, destination)
	if err == nil {
		defer conn.Close()
		return heard(conn, nil)
	}
	return err
}

func TestServerTLSConfig(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	db := w.source("db")
	l, err := tls.Listen("tcp", "127.0.0.1:0", ServerTLSConfig(db))
	if err != nil {
		t.Fatal(err)
	}
	address := greet(t, l)
	for _, tt := range []struct{ name, source, destination, code string }{
		{"allowed", "web", "db", ""},
		{"allowed-by-id", "web", sourceID("db"), ""},
		{"default-denies", "stranger", "db", CodePeerRefused},
		{"per-request-denies", "cart", "db", CodePeerRefused},
		{"wrong-service", "web", "orders", CodeWrongServerID},
		{"wrong-datacenter", "web", "spiffe://connectd-development.consul/ns/default/dc/dc2/svc/db", CodeWrongServerID},
		{"wrong-trust-domain", "web", "spiffe://x.consul/ns/default/dc/dc1/svc/db", CodeWrongServerID},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := try(w.source(tt.source), address, tt.destination)
			if tt.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := asError(t, err); e.Code != tt.code {
				t.Errorf("got %v, want %s", err, tt.code)
			}
		})
	}
	t.Run("unknown-root", func(t *testing.T) {
		other := newWorld(t, webMayReachDB)
		if e := asError(t, try(other.source("web"), address, "db")); e.Code != CodeUnknownRoot {
			t.Errorf("got %v", e)
		}
	})
	t.Run("without-certificate", func(t *testing.T) {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 1))
			_ = conn.Close()
		}
		if err == nil {
			t.Error("a client without a certificate was let in")
		}
	})
}

func TestClientTLSConfig(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	address := greet(t, Listen(w.source("db"), localListener(t)))
	web := w.source("web")
	for destination, want := range map[string]string{"db": "", "web": CodeWrongServerID} {
		config, err := ClientTLSConfig(web, destination)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", address, config)
		if err == nil {
			err = heard(conn, nil)
			_ = conn.Close()
		}
		if want == "" && err != nil || want != "" && asError(t, err).Code != want {
			t.Errorf("%s: got %v", destination, err)
		}
	}
	if _, err := ClientTLSConfig(web, ""); err == nil {
		t.Error("a configuration without an expected service was made")
	}
}

// TestSessionsAreNotResumed has a client that keeps every ticket: a second
// handshake after the change must be refused, in both versions of TLS.
func TestSessionsAreNotResumed(t *testing.T) {
	for name, version := range map[string]uint16{"tls12": tls.VersionTLS12, "tls13": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, webMayReachDB)
			db := w.source("db")
			server := ServerTLSConfig(db)
			server.SetSessionTicketKeys([][32]byte{{1}})
			l, err := tls.Listen("tcp", "127.0.0.1:0", server)
			if err != nil {
				t.Fatal(err)
			}
			address := greet(t, l)
			config, err := ClientTLSConfig(w.source("web"), "db")
			if err != nil {
				t.Fatal(err)
			}
			config.ClientSessionCache, config.MaxVersion = tls.NewLRUClientSessionCache(8), version
			config.SessionTicketsDisabled, config.ServerName = false, "db"
			shake := func() error {
				conn, err := tls.Dial("tcp", address, config)
				if err != nil {
					return err
				}
				defer conn.Close()
				if conn.ConnectionState().DidResume {
					t.Error("a session was resumed")
				}
				return heard(conn, nil)
			}
			for range 2 {
				if err := shake(); err != nil {
					t.Fatal(err)
				}
			}
			w.write(`Kind = "service-intentions" Name = "db" Sources = [{ Name = "web" Action = "deny" }]`)
			until(t, db, "web denied", func(n *Snapshot) bool { return !n.Decide(sourceID("web"), nil).Allowed })
			if err := shake(); err == nil {
				t.Error("a session outlived the decision")
			}
		})
	}
}

// serveHTTP runs a server that owns both ends, on a port of its own.
func serveHTTP(t testing.TB, s *Source, h http.Handler) string {
	t.Helper()
	l := localListener(t)
	v := HTTPServer(s, h)
	done := make(chan error, 1)
	go func() { done <- v.Serve(l) }()
	t.Cleanup(func() { _ = v.Close(); <-done })
	return l.Addr().String()
}

// register makes a service discoverable where it listens.
func (w *world) register(id, name, address string) {
	w.t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.authority.AddService(entries.Service{ID: id, Name: name, Address: a.IP.String(), Port: a.Port}); err != nil {
		w.t.Fatal(err)
	}
}

func TestHTTPServerJudgesEveryRequest(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	var served atomic.Int64
	address := serveHTTP(t, w.source("db"), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		served.Add(1)
		_, _ = rw.Write([]byte(r.Proto))
	}))
	w.register("db", "db", address)
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, tt := range []struct {
			source, path string
			status       int
		}{
			{"web", "/any", 200}, {"cart", "/v1/rows", 200}, {"cart", "/admin", 403}, {"cart", "/v1/../admin", 403},
			{"cart", "/v1/%2e%2e/admin", 403},
		} {
			t.Run(strings.NewReplacer("/", "_", "%", "").Replace(proto+tt.source+tt.path), func(t *testing.T) {
				transport := HTTPTransport(NewDialer(w.source(tt.source)))
				defer transport.CloseIdleConnections()
				if proto == "HTTP/1.1" {
					transport.ForceAttemptHTTP2 = false
					transport.DialTLSContext = onlyHTTP1(w.source(tt.source), address)
				}
				resp, err := (&http.Client{Transport: transport}).Get("https://db.service.consul" + tt.path)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != tt.status || resp.StatusCode == 200 && string(body) != proto {
					t.Errorf("got %s %q over %s", resp.Status, body, resp.Proto)
				}
			})
		}
	}
	if got := served.Load(); got != 4 {
		t.Errorf("served %d requests, want 4", got)
	}
	t.Run("stranger", func(t *testing.T) {
		c := HTTPClient(w.source("stranger"))
		defer c.CloseIdleConnections()
		_, err := c.Get("https://db.service.consul/")
		if e := asError(t, err); e.Code != CodePeerRefused {
			t.Errorf("got %v", err)
		}
	})
}

func onlyHTTP1(s *Source, address string) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		config, err := ClientTLSConfig(s, "db")
		if err != nil {
			return nil, err
		}
		config.NextProtos = []string{"http/1.1"}
		return tls.Dial("tcp", address, config)
	}
}

// TestPlainHTTPServerServesNoRequestOfAPermission: an application that does not
// judge requests must not answer one of a service whose intention has
// permissions.
func TestPlainHTTPServerServesNoRequestOfAPermission(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	db := w.source("db")
	var served atomic.Int64
	h := &http.Server{ErrorLog: log.New(io.Discard, "", 0), TLSConfig: ServerTLSConfig(db),
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })}
	l := localListener(t)
	done := make(chan error, 1)
	go func() { done <- h.ServeTLS(l, "", "") }()
	defer func() { _ = h.Close(); <-done }()
	w.register("db", "db", l.Addr().String())
	for range 5 {
		c := HTTPClient(w.source("cart"))
		if resp, err := c.Get("https://db.service.consul/v1/rows"); err == nil {
			t.Errorf("got %s", resp.Status)
			_ = resp.Body.Close()
		}
		c.CloseIdleConnections()
	}
	if served.Load() != 0 {
		t.Errorf("%d requests were served", served.Load())
	}
	c := HTTPClient(w.source("web"))
	defer c.CloseIdleConnections()
	resp, err := c.Get("https://db.service.consul/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.Proto != "HTTP/2.0" || served.Load() != 1 {
		t.Errorf("got %s, %d served", resp.Proto, served.Load())
	}
	// The same handler behind our middleware refuses what this server accepts.
	h.Handler = Middleware(db, h.Handler)
	again, err := c.Get("https://db.service.consul/")
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Body.Close()
	if again.StatusCode != http.StatusForbidden || served.Load() != 1 {
		t.Errorf("a foreign connection was judged: %s", again.Status)
	}
}

func TestDialerTriesOtherInstances(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	web := w.source("web")
	address := greet(t, Listen(w.source("db"), localListener(t)))
	dead := localListener(t)
	_ = dead.Close()
	wrong := greet(t, Listen(w.source("orders"), localListener(t)))
	w.authority.RemoveService("db")
	w.register("db-1", "db", dead.Addr().String())
	w.register("db-2", "db", wrong)
	w.register("db-3", "db", address)
	for range 5 {
		conn, err := NewDialer(web).DialContext(t.Context(), "db")
		if err := heard(conn, err); err != nil {
			t.Error(err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	w.stop()
	conn, err := NewDialer(web).DialContext(t.Context(), "db.service.consul")
	if err := heard(conn, err); err != nil {
		t.Errorf("with the daemon away: %v", err)
	}
	_ = conn.Close()
}

func TestHTTPClientRefusesOtherNames(t *testing.T) {
	c := HTTPClient(newWorld(t, webMayReachDB).source("web"))
	for _, url := range []string{
		"http://db.service.consul/", "https://example.org/", "https://127.0.0.1/", "https://tag.db.service.consul/",
		"https://db.service.dc1.x.consul/", "https://db.node.consul/", "https://db.service.consul.example.org/",
	} {
		if _, err := c.Get(url); asError(t, err).Code != CodeBadRequest {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

func TestParseHost(t *testing.T) {
	for host, want := range map[string]Destination{
		"db.service.consul":     {Service: "db"},
		"db.service.dc2.consul": {Service: "db", Datacenter: "dc2"},
		"near.query.consul":     {Query: "near"},
		"near.query.dc2.consul": {Query: "near", Datacenter: "dc2"},
	} {
		if got, err := ParseHost(host); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", host, got, err)
		}
	}
}

func TestDenialsAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := denialLog{logger: slog.New(slog.NewTextHandler(&out, nil))}
		key := denialKey{sourceID("cart"), CodePeerRefused, "intention"}
		lines := func() int { return strings.Count(out.String(), "\n") }
		for range 500 {
			l.note(key, "denied")
		}
		l.minute()
		if lines() != 1 {
			t.Errorf("got %d lines at once, want 1:\n%s", lines(), &out)
		}
		time.Sleep(time.Minute)
		l.minute()
		if lines() != 2 || !strings.Contains(out.String(), "count=499") {
			t.Errorf("got after a minute:\n%s", &out)
		}
		for i := range 2 * maxDenials {
			l.note(denialKey{source: sourceID(strings.Repeat("x", i%100) + string(rune('a'+i%26))), code: CodePeerRefused, reason: time.Duration(i).String()}, "denied")
		}
		if len(l.seen) > maxDenials+4 {
			t.Errorf("%d denials are remembered", len(l.seen))
		}
	})
}

func TestFailuresAreTold(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	var out lockedBuffer
	db := w.source("db", WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	address := greet(t, Listen(db, localListener(t)))
	stranger := w.source("stranger")
	for range 20 {
		if err := try(stranger, address, "db"); err == nil {
			t.Error("let in")
		}
	}
	text := out.String()
	if strings.Count(text, "connectd: denied") != 1 || !strings.Contains(text, "/svc/stranger") ||
		!strings.Contains(text, "connectd authorize --source stranger --destination db") {
		t.Errorf("got %s", text)
	}
	db.Close()
	if text := out.String(); !strings.Contains(text, "count=19") {
		t.Errorf("got at the end: %s", text)
	}
}

// lockedBuffer is written by servers and read by the test.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// storm shakes hands without a pause until it is stopped, and then says how
// many handshakes there were. A failed one fails the test.
func storm(t *testing.T, s *Source, address string) (stop func() int64) {
	t.Helper()
	over := make(chan struct{})
	var shaken, failed atomic.Int64
	var last atomic.Value
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				shaken.Add(1)
				if err := try(s, address, "db"); err != nil {
					failed.Add(1)
					last.Store(err.Error())
				}
			}
		})
	}
	return func() int64 {
		close(over)
		running.Wait()
		if failed.Load() > 0 {
			t.Errorf("%d of %d handshakes failed: %v", failed.Load(), shaken.Load(), last.Load())
		}
		return shaken.Load()
	}
}

// TestRotationsFailNoHandshake rotates the root while handshakes go on.
func TestRotationsFailNoHandshake(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	db, web := w.source("db"), w.source("web")
	stop := storm(t, web, greet(t, Listen(db, localListener(t))))
	const rotations = 10
	for range rotations {
		d, c := db.Snapshot().leaf.serial, web.Snapshot().leaf.serial
		if err := w.authority.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, db, "a new leaf", func(n *Snapshot) bool { return n.leaf.serial != d })
		until(t, web, "a new leaf", func(n *Snapshot) bool { return n.leaf.serial != c })
	}
	t.Logf("%d rotations, %d handshakes", rotations, stop())
}

// TestRestartsFailNoHandshake ends the daemon and starts it again while
// handshakes go on.
func TestRestartsFailNoHandshake(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	db, web := w.source("db"), w.source("web")
	stop := storm(t, web, greet(t, Listen(db, localListener(t))))
	const restarts = 10
	for range restarts {
		before := db.Snapshot().Index()
		w.stop()
		w.start()
		until(t, db, "a snapshot of the new daemon", func(n *Snapshot) bool { return n.Index() != before })
	}
	t.Logf("%d restarts, %d handshakes", restarts, stop())
}
