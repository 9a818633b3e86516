package connectdtest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/intentions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a service over HTTP until the test ends.
func serve(t *testing.T, d *Daemon, s *connectd.Source) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := connectd.HTTPServer(s, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	done := make(chan error, 1)
	go func() { done <- v.Serve(l) }()
	t.Cleanup(func() { _ = v.Close(); <-done })
	d.Register(s.Service(), l.Addr())
}

func get(t *testing.T, s *connectd.Source, path string) (int, error) {
	t.Helper()
	c := connectd.HTTPClient(s)
	defer c.CloseIdleConnections()
	resp, err := c.Get("https://db.service.consul" + path)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Body.Close()
}

func code(err error) string {
	var e *connectd.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestScenarios(t *testing.T) {
	t.Run("allowed", func(t *testing.T) {
		d := Allowed(t)
		serve(t, d, d.Source("db"))
		if status, err := get(t, d.Source("web"), "/"); status != 200 {
			t.Errorf("got %d, %v", status, err)
		}
	})
	t.Run("denied", func(t *testing.T) {
		d := Denied(t)
		serve(t, d, d.Source("db"))
		if _, err := get(t, d.Source("web"), "/"); code(err) != connectd.CodePeerRefused {
			t.Errorf("got %v", err)
		}
	})
	t.Run("permitted", func(t *testing.T) {
		d := Denied(t)
		d.Permit("web", "db", intentions.Permission{Action: "allow", Path: &intentions.PathMatch{Match: "prefix", Value: "/v1/"}})
		serve(t, d, d.Source("db"))
		web := d.Source("web")
		inside, _ := get(t, web, "/v1/x")
		outside, _ := get(t, web, "/x")
		if inside != 200 || outside != 403 {
			t.Errorf("got %d and %d", inside, outside)
		}
	})
	t.Run("gone", func(t *testing.T) {
		d := Gone(t)
		db := d.Source("db")
		for db.Err() == nil {
			<-time.After(time.Millisecond)
		}
		if got := db.Snapshot().Decide(ID("web"), nil); !got.Allowed {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("stale", func(t *testing.T) {
		d := Stale(t)
		if got := d.Source("db").Snapshot().Decide(ID("web"), nil); got.Decision != connectd.Deny || got.Reason != connectd.ReasonPolicyStale {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("not-ready", func(t *testing.T) {
		d := NotReady(t)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		own := uint32(os.Geteuid())
		_, err := connectd.NewSource(ctx, "db", connectd.WithConfig(connectd.Config{Socket: d.Socket(), TrustUID: &own}),
			connectd.WithLogger(slog.New(slog.DiscardHandler)))
		if code(err) != connectd.CodeNotReady {
			t.Errorf("got %v", err)
		}
	})
}

func TestRotatingFailsNothing(t *testing.T) {
	d := Rotating(t)
	db, web := d.Source("db"), d.Source("web")
	serve(t, d, db)
	for range 3 {
		changed := db.Changed()
		if status, err := get(t, web, "/"); status != 200 {
			t.Errorf("got %d, %v", status, err)
		}
		<-changed
	}
}
