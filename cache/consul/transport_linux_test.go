package consul

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDeadLinksAreNoticed reads the options of a socket that was dialed: a
// link that dies without a word is noticed within 45 s.
func TestDeadLinksAreNoticed(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	for _, scheme := range []string{"http://", "https://"} {
		s := must(New(Config{Address: scheme + l.Addr().String()}))(t)
		for _, c := range []*http.Client{s.held, s.short} {
			conn := must(c.Transport.(*http.Transport).DialContext(t.Context(), "tcp", l.Addr().String()))(t)
			for _, o := range []struct {
				name          string
				level, option int
				want          int
			}{
				{"user timeout in ms", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds())},
				{"keep-alive", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{"idle time", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Seconds())},
				{"interval", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Seconds()) / 3},
				{"probes", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
			} {
				if got := option(t, conn, o.level, o.option); got != o.want {
					t.Errorf("%s: %s is %d, want %d", scheme, o.name, got, o.want)
				}
			}
			conn.Close()
		}
	}
	if worst := keepAlive + 3*(keepAlive/3) + userTimeout/2; worst > 45*time.Second {
		t.Errorf("a dead link is noticed after %s", worst)
	}
}

func option(t *testing.T, conn net.Conn, level, name int) int {
	t.Helper()
	raw := must(conn.(*net.TCPConn).SyscallConn())(t)
	value, failed := 0, error(nil)
	err := raw.Control(func(fd uintptr) { value, failed = unix.GetsockoptInt(int(fd), level, name) })
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value
}

// TestUnixSocket asks a real listener.
func TestUnixSocket(t *testing.T) {
	f := newFake(t)
	path := filepath.Join(t.TempDir(), "consul.sock")
	l := must(net.Listen("unix", path))(t)
	server := &http.Server{Handler: f}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	defer func() {
		server.Close()
		<-done
	}()
	s := must(New(Config{Address: "unix://" + path}))(t)
	defer s.short.CloseIdleConnections()
	a, err := s.get(t.Context(), request{path: rootsPath})
	if err != nil || string(a.body) != f.roots {
		t.Errorf("got %s, %v", a.body, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.short.CloseIdleConnections()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if _, err := s.get(ctx, request{path: rootsPath}); err == nil {
		t.Error("a socket that is gone answers")
	}
}
