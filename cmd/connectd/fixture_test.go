package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

const samples = `Kind = "service-intentions" Name = "db" Sources = [
  { Name = "web" Action = "allow" },
  { Name = "cart" Permissions = [{ Action = "allow" HTTP { PathPrefix = "/v1/" Methods = ["GET"] } }] },
]`

// result is what a command left behind.
type result struct {
	code     int
	out, err string
}

// runCommand runs a command as main does.
func runCommand(t *testing.T, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := execute(t.Context(), args, &out, &err)
	return result{code, out.String(), err.String()}
}

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

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := socketapi.Listen(t.Context(), path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	return l
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

// admitted gives everybody everything.
type admitted struct{}

func (admitted) Admit(socketapi.Peer, socketapi.Grant, intentions.Service) bool { return true }

// startDaemon serves the samples at a socket.
func startDaemon(t *testing.T, socket string) {
	t.Helper()
	startAuthority(t, socket, devca.Config{Intentions: map[string]string{"a.hcl": samples}})
}

// startAuthority serves a development authority at a socket.
func startAuthority(t *testing.T, socket string, cfg devca.Config) {
	t.Helper()
	authority, err := devca.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := cache.New(cache.Config{Source: authority})
	if err != nil {
		t.Fatal(err)
	}
	server := socketapi.New(socketapi.Config{
		Cache: snapshots, Admission: admitted{}, Version: "test", UpstreamName: "development authority",
	})
	l := listen(t, socket)
	run(t, func(ctx context.Context) error { return snapshots.Run(ctx) })
	run(t, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
		return server.Serve(l)
	})
}

// startAnswering serves fixed documents by path, and records what was asked.
func startAnswering(t *testing.T, documents map[string]string) (socket string, asked func() []string) {
	t.Helper()
	requests := make(chan string, 64)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r.Method + " " + r.URL.String() + " " + string(body)
		document, ok := documents[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusForbidden)
			document = `{"error":{"code":"forbidden","message":"this process is not admitted here\nrefusal 1"}}`
		}
		_, _ = io.WriteString(w, document)
	})}
	socket = socketPath(t)
	l := listen(t, socket)
	run(t, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = server.Close() })
		if err := server.Serve(l); err != http.ErrServerClosed {
			return err
		}
		return nil
	})
	return socket, func() []string {
		var list []string
		for len(requests) > 0 {
			list = append(list, <-requests)
		}
		return list
	}
}
