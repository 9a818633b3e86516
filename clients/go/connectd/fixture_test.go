package connectd

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

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
func socketPath(t *testing.T) string {
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
	authority, err := devca.New(devca.Config{
		Intentions: map[string]string{"a.hcl": webMayReachDB},
		Services:   []entries.Service{{Name: "web", Port: 8080}, {Name: "db", Port: 5432}},
	})
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := cache.New(cache.Config{Source: authority})
	if err != nil {
		t.Fatal(err)
	}
	socket := socketPath(t)
	l, err := socketapi.Listen(t.Context(), socket, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	server := socketapi.New(socketapi.Config{
		Cache: snapshots, Admission: admitted{}, Version: "test", UpstreamName: "development authority",
	})
	run(t, func(ctx context.Context) error { return snapshots.Run(ctx) })
	run(t, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
		return server.Serve(l)
	})
	return clientOf(t, socket), authority
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
