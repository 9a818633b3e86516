package connectd

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// envMany is how many connections TestRevocationOfMany holds open.
const envMany = "CONNECTD_TEST_CONNECTIONS"

const (
	bothAllowed = `Kind = "service-intentions" Name = "db" Sources = [
  { Name = "web" Action = "allow" }, { Name = "cart" Action = "allow" }]`
	webDenied = `Kind = "service-intentions" Name = "db" Sources = [
  { Name = "web" Action = "deny" }, { Name = "cart" Action = "allow" }]`
)

// revocations collects what a source says that it closed.
type revocations struct {
	mu   sync.Mutex // guards list
	list []string
}

func (r *revocations) add(p Peer, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, p.ID.Service.Name+" "+reason)
}

func (r *revocations) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list)
}

// hold opens connections and returns a channel per connection that is closed
// with it.
func hold(t testing.TB, s *Source, address string, n int) []<-chan struct{} {
	t.Helper()
	var list []<-chan struct{}
	for range n {
		conn, err := NewDialer(s).DialAddress(t.Context(), address, "db")
		if err := heard(conn, err); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _, _ = io.Copy(io.Discard, conn) }()
		t.Cleanup(func() { _ = conn.Close(); <-ended })
		list = append(list, ended)
	}
	return list
}

// allEnd waits for the end of all and returns how long it took.
func allEnd(t testing.TB, began time.Time, list []<-chan struct{}) time.Duration {
	t.Helper()
	over := time.NewTimer(30 * time.Second)
	defer over.Stop()
	for i, ended := range list {
		select {
		case <-ended:
		case <-over.C:
			t.Fatalf("connection %d of %d is still open", i+1, len(list))
		}
	}
	return time.Since(began)
}

func stillOpen(t testing.TB, list []<-chan struct{}) {
	t.Helper()
	for i, ended := range list {
		select {
		case <-ended:
			t.Errorf("unrelated connection %d of %d was closed", i+1, len(list))
			return
		default:
		}
	}
}

func TestRevocationOfMany(t *testing.T) {
	n := 1000
	if text := os.Getenv(envMany); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, bothAllowed)
	var closed revocations
	db := w.source("db", OnRevoked(closed.add))
	address := greet(t, Listen(db, localListener(t)))
	const unrelated = 50
	web := hold(t, w.source("web"), address, n)
	cart := hold(t, w.source("cart"), address, unrelated)
	if got := db.connections.size(); got != n+unrelated {
		t.Errorf("%d connections are followed, want %d", got, n+unrelated)
	}
	w.write(webDenied)
	until(t, db, "web denied", func(s *Snapshot) bool { return !s.Decide(sourceID("web"), nil).Allowed })
	took := allEnd(t, time.Now(), web)
	stillOpen(t, cart)
	if took > time.Second {
		t.Errorf("closing %d connections took %s", n, took)
	}
	db.Close() // It waits for what it closes.
	if got := closed.count(); got != n || closed.list[0] != "web intention" {
		t.Errorf("%d revocations were told", got)
	}
	stillOpen(t, cart)
	t.Logf("%d connections closed in %s, %d unrelated ones untouched", n, took, unrelated)
}

func TestRevocationThroughAForeignServer(t *testing.T) {
	w := newWorld(t, bothAllowed)
	var closed revocations
	db := w.source("db", OnRevoked(closed.add))
	l, err := tls.Listen("tcp", "127.0.0.1:0", ServerTLSConfig(db))
	if err != nil {
		t.Fatal(err)
	}
	address := greet(t, l)
	web, cart := hold(t, w.source("web"), address, 20), hold(t, w.source("cart"), address, 5)
	w.write(webDenied)
	if took := allEnd(t, time.Now(), web); took > 2*time.Second {
		t.Errorf("closing took %s", took)
	}
	stillOpen(t, cart)
}

func TestRevocationByTheBundle(t *testing.T) {
	w := newWorld(t, bothAllowed)
	var here, there revocations
	db, web := w.source("db", OnRevoked(here.add)), w.source("web", OnRevoked(there.add))
	address := greet(t, Listen(db, localListener(t)))
	open := hold(t, web, address, 3)
	// A bundle of another authority takes the place of ours, at one end and then
	// at the other.
	other := newWorld(t, bothAllowed).source("db").Snapshot()
	for _, c := range db.connections.all() {
		if got := c.refusedBy(withBundle(db.Snapshot(), other), &pass{}); got != CodeUnknownRoot {
			t.Errorf("got %q", got)
		}
	}
	stillOpen(t, open)
	web.publish(withBundle(web.Snapshot(), other))
	if took := allEnd(t, time.Now(), open); took > time.Second {
		t.Errorf("closing took %s", took)
	}
	web.Close() // It waits for what it closes.
	if there.count() != 3 || there.list[0] != "db "+CodeUnknownRoot || here.count() != 0 {
		t.Errorf("got %v and %v", there.list, here.list)
	}
}

// withBundle is a snapshot with the bundle of another one.
func withBundle(s, other *Snapshot) *Snapshot {
	next := *s
	next.bundle = other.bundle
	return &next
}

func TestPerRequestKeepsTheConnection(t *testing.T) {
	w := newWorld(t, bothAllowed)
	db := w.source("db")
	judged := serveHTTP(t, db, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	w.register("db", "db", judged)
	plain := greet(t, Listen(db, localListener(t)))
	web := w.source("web")
	unjudged := hold(t, web, plain, 3)
	c := HTTPClient(web)
	defer c.CloseIdleConnections()
	get := func(path string) int {
		resp, err := c.Get("https://db.service.consul" + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := get("/"); got != 200 {
		t.Errorf("got %d", got)
	}
	before := db.connections.size()
	w.write(`Kind = "service-intentions" Name = "db" Sources = [
	  { Name = "web" Permissions = [{ Action = "allow" HTTP { PathPrefix = "/v1/" } }] }]`)
	until(t, db, "web per request", func(s *Snapshot) bool { return s.Decide(sourceID("web"), nil).Decision == PerRequest })
	allEnd(t, time.Now(), unjudged)
	if a, b := get("/v1/x"), get("/x"); a != 200 || b != 403 {
		t.Errorf("got %d and %d", a, b)
	}
	if got := db.connections.size(); before != 4 || got != 1 {
		t.Errorf("%d connections before, %d after", before, got)
	}
}

// TestRevocationLetsARequestFinish has a request under way on HTTP/2 when its
// source is denied: it gets its answer, and the connection ends.
func TestRevocationLetsARequestFinish(t *testing.T) {
	w := newWorld(t, bothAllowed)
	var closed revocations
	db := w.source("db", OnRevoked(closed.add))
	arrived, answer := make(chan struct{}), make(chan struct{})
	address := serveHTTP(t, db, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-answer
		_, _ = rw.Write([]byte("done"))
	}))
	w.register("db", "db", address)
	c := HTTPClient(w.source("web"))
	defer c.CloseIdleConnections()
	result := make(chan error, 1)
	go func() {
		resp, err := c.Get("https://db.service.consul/")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		result <- err
	}()
	<-arrived
	w.write(webDenied)
	until(t, db, "web denied", func(s *Snapshot) bool { return !s.Decide(sourceID("web"), nil).Allowed })
	close(answer)
	if err := <-result; err != nil {
		t.Errorf("the request under way got %v", err)
	}
	resp, err := c.Get("https://db.service.consul/")
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("a request was served after the change: %s", resp.Status)
		}
	}
}

func TestForeignHTTPServerIsFollowed(t *testing.T) {
	w := newWorld(t, bothAllowed)
	db := w.source("db")
	l := localListener(t)
	h := &http.Server{TLSConfig: ServerTLSConfig(db), ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	done := make(chan error, 1)
	go func() { done <- h.ServeTLS(l, "", "") }()
	defer func() { _ = h.Close(); <-done }()
	d := NewDialer(w.source("web"))
	d.NextProtos = []string{"h2"}
	conn, err := d.DialAddress(t.Context(), l.Addr().String(), "db")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	w.write(webDenied)
	if _, err := io.Copy(io.Discard, conn); err == nil {
		t.Log("the connection ended with a goodbye")
	}
}

func TestSweepForgetsWhatEnded(t *testing.T) {
	w := newWorld(t, bothAllowed)
	db := w.source("db")
	accepted := make(chan net.Conn, 1)
	inner := localListener(t)
	l := tls.NewListener(inner, ServerTLSConfig(db))
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_ = conn.(*tls.Conn).HandshakeContext(context.Background())
		}
		accepted <- conn
	}()
	client, err := NewDialer(w.source("web")).DialAddress(t.Context(), inner.Addr().String(), "db")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn := <-accepted
	_ = l.Close()
	db.connections.sweep()
	if got := db.connections.size(); got != 1 {
		t.Errorf("%d are followed while one is open", got)
	}
	_ = conn.Close()
	db.connections.sweep()
	if got := db.connections.size(); got != 0 {
		t.Errorf("%d are followed after the end", got)
	}
}
