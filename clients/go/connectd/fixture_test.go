package connectd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/cache/devca/entries"
	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

const webMayReachDB = `Kind = "service-intentions" Name = "db" Sources = [
  { Name = "web" Action = "allow" },
  { Name = "cart" Permissions = [{ Action = "allow" HTTP { PathPrefix = "/v1/" } }] },
]`

// admitted gives everybody everything.
type admitted struct{}

func (admitted) Admit(socketapi.Peer, socketapi.Grant, intentions.Service) bool { return true }

// socketPath returns a path that is short enough for a socket address.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// clientOf returns a client of a socket, which is closed with the test.
func clientOf(t *testing.T, socket string) *Client {
	t.Helper()
	c, err := NewClient(Config{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// startDaemon serves a development authority on a real socket.
func startDaemon(t *testing.T) (*Client, *devca.Authority) {
	t.Helper()
	w := newWorld(t, webMayReachDB)
	return clientOf(t, w.socket), w.authority
}

// world is a development authority and the daemon that serves it, which can go
// away and come back.
type world struct {
	t         testing.TB
	authority *devca.Authority
	socket    string
	stop      func()
}

func newWorld(t testing.TB, text string) *world {
	t.Helper()
	authority, err := devca.New(devca.Config{
		Intentions: map[string]string{"a.hcl": text},
		Services:   []entries.Service{{Name: "web", Port: 8080}, {Name: "db", Port: 5432}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, authority: authority, socket: socketPath(t), stop: func() {}}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	snapshots, err := cache.New(cache.Config{Source: w.authority})
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := socketapi.Listen(context.Background(), w.socket, 0o600, -1)
	if err != nil {
		w.t.Fatal(err)
	}
	server := socketapi.New(socketapi.Config{
		Cache: snapshots, Admission: admitted{}, Version: "test", UpstreamName: "development authority",
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- snapshots.Run(ctx) }()
	go func() { ended <- server.Serve(l) }()
	w.stop = func() {
		cancel()
		_ = server.Shutdown(context.Background())
		if err := errors.Join(<-ended, <-ended); err != nil {
			w.t.Errorf("the daemon ended with %v", err)
		}
		w.stop = func() {}
	}
}

// write replaces the intentions.
func (w *world) write(text string) {
	w.t.Helper()
	if err := w.authority.Replace(map[string]string{"a.hcl": text}); err != nil {
		w.t.Fatal(err)
	}
}

// source follows a service until the test ends.
func (w *world) source(service string, opts ...SourceOption) *Source {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	opts = append([]SourceOption{WithConfig(Config{Socket: w.socket}), WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	s, err := NewSource(ctx, service, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

// until waits for a snapshot that a condition holds of.
func until(t testing.TB, s *Source, what string, holds func(*Snapshot) bool) *Snapshot {
	t.Helper()
	over := time.NewTimer(time.Minute)
	defer over.Stop()
	for {
		changed := s.Changed()
		if now := s.Snapshot(); now != nil && holds(now) {
			return now
		}
		select {
		case <-changed:
		case <-over.C:
			t.Fatalf("waited a minute for: %s (%v)", what, s.Err())
		}
	}
}

// run runs something until the test ends, and waits for its end.
func run(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("got %v at the end", err)
		}
	})
}

// serveRaw answers each request on a connection with the same bytes and closes
// the connection.
func serveRaw(t *testing.T, answer string) *Client {
	t.Helper()
	socket := socketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = l.Close() })
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = conn.Write([]byte(answer))
			}
			_ = conn.Close()
		}
	})
	return clientOf(t, socket)
}

// asError returns the error as ours, or ends the test.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return e
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serveOnce answers one request on a connection and closes it.
func serveOnce(conn net.Conn, body []byte) {
	defer conn.Close()
	if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
		return
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}
