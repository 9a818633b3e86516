package connectd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/connectd/connectd/cache/devca"
)

func TestSnapshotIsOneConsistentSet(t *testing.T) {
	c, _ := startDaemon(t)
	s, err := c.Snapshot(t.Context(), "web", SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Schema != 1 || s.Service.String() != "web" || s.Service.Datacenter != "dc1" || s.Freshness != Fresh || s.Store != "ok" ||
		s.DenyAfterSeconds != 72*3600 || s.Index < s.Leaf.Index || s.Index < s.Policy.Index {
		t.Errorf("got %+v", s)
	}
	if _, err := tls.X509KeyPair([]byte(s.Leaf.CertificatePEM), []byte(s.Leaf.PrivateKeyPEM.Reveal())); err != nil {
		t.Errorf("the key does not fit: %v", err)
	}
	if s.Bundle.TrustDomain != devca.TrustDomain || len(s.Bundle.Roots) != 1 || !s.Bundle.Roots[0].Active {
		t.Errorf("got %+v", s.Bundle)
	}
	again, err := c.Snapshot(t.Context(), "web", SnapshotOptions{HaveLeaf: s.Leaf.SerialNumber})
	if err != nil || again.Leaf != nil || again.Bundle == nil {
		t.Errorf("got %+v and %v, want no leaf", again, err)
	}
}

func TestReadsAnswer(t *testing.T) {
	c, _ := startDaemon(t)
	ctx := t.Context()
	leaf, err := c.Leaf(ctx, "default/default/web", ReadOptions{})
	if err != nil || !strings.HasSuffix(leaf.SPIFFEID, "/svc/web") || leaf.Index == 0 || !leaf.NotAfter.After(time.Now()) {
		t.Errorf("leaf: got %+v and %v", leaf, err)
	}
	policy, err := c.Policy(ctx, "db", ReadOptions{})
	if err != nil || len(policy.Rules) != 2 || policy.DefaultAction != "deny" || policy.Index == 0 ||
		policy.Destination.Name != "db" || !strings.Contains(string(policy.Rules[1]), `"web"`) {
		t.Errorf("policy: got %+v and %v", policy, err)
	}
	bundle, err := c.Bundle(ctx, ReadOptions{})
	if err != nil || bundle.TrustDomain != devca.TrustDomain || bundle.Freshness != Fresh {
		t.Errorf("bundle: got %+v and %v", bundle, err)
	}
	ready, err := c.Ready(ctx, "web")
	if err != nil || !ready.Ready {
		t.Errorf("ready: got %+v and %v", ready, err)
	}
	found, err := c.Discover(ctx, "db", DiscoverOptions{Datacenter: "dc1"})
	if err != nil || len(found.Instances) != 1 || found.Instances[0].Port != 5432 ||
		!strings.HasSuffix(found.Instances[0].SPIFFEID, "/ns/default/dc/dc1/svc/db") {
		t.Errorf("discovery: got %+v and %v", found, err)
	}
	services, err := c.Services(ctx)
	if err != nil || len(services.Services) != 2 || services.Services[1].Service.Name != "web" {
		t.Errorf("services: got %+v and %v", services, err)
	}
	health, err := c.Health(ctx)
	if err != nil || !health.Live {
		t.Errorf("health: got %+v and %v", health, err)
	}
	readyz, err := c.Readyz(ctx)
	if err != nil || !readyz.Ready {
		t.Errorf("readyz: got %+v and %v", readyz, err)
	}
}

func TestStatusIsWhole(t *testing.T) {
	c, _ := startDaemon(t)
	if _, err := c.Snapshot(t.Context(), "web", SnapshotOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != "test" || s.Datacenter != "dc1" || s.Store != "ok" || s.Index == 0 || s.Upstream.Name != "development authority" ||
		!s.Upstream.Confirmed || s.Bundle == nil || s.Bundle.Roots != 1 || s.Bundle.ActiveRootNotAfter.IsZero() ||
		s.DefaultAction == nil || s.DefaultAction.Action != "deny" || len(s.Problems) != 0 || len(s.Services) != 2 {
		t.Errorf("got %+v", s)
	}
	web := s.Services[1]
	if !web.Ready || web.Leaf == nil || web.Leaf.SPIFFEID == "" || web.Freshness != Fresh {
		t.Errorf("got %+v", web)
	}
}

func TestReadBlocksUntilTheIndexDiffers(t *testing.T) {
	c, authority := startDaemon(t)
	have, err := c.Policy(t.Context(), "db", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same, err := c.Policy(t.Context(), "db", ReadOptions{Index: have.Index, Wait: time.Millisecond})
	if err != nil || same.Index != have.Index {
		t.Errorf("got %+v and %v, want the same after the wait", same, err)
	}
	answers := make(chan *PolicyAnswer, 1)
	go func() {
		next, _ := c.Policy(t.Context(), "db", ReadOptions{Index: have.Index})
		answers <- next
	}()
	if err := authority.Replace(map[string]string{}); err != nil {
		t.Fatal(err)
	}
	if next := <-answers; next == nil || next.Index == have.Index || len(next.Rules) != 0 {
		t.Errorf("got %+v, want no rules", next)
	}
}

func TestErrorsOfTheDaemonKeepTheirCode(t *testing.T) {
	c, _ := startDaemon(t)
	_, err := c.Ready(t.Context(), "nobody")
	if e := asError(t, err); e.Code != CodeNotReady || e.Status != http.StatusServiceUnavailable ||
		e.RetryAfter != time.Second || !strings.Contains(e.Message, "nobody") {
		t.Errorf("got %+v", e)
	}
	if got := err.Error(); !strings.HasPrefix(got, "connectd: ") || !strings.HasSuffix(got, "(not_ready)") {
		t.Errorf("got %q", got)
	}
}

func TestServiceNamesAreChecked(t *testing.T) {
	c := clientOf(t, socketPath(t))
	for _, name := range []string{"", "a/b", "..", "a/../b", "a?b", "a/b/c/d", "/a", "a/"} {
		_, err := c.Leaf(t.Context(), name, ReadOptions{})
		if e := asError(t, err); e.Code != CodeBadRequest {
			t.Errorf("%q: got %+v", name, e)
		}
	}
}

func TestServicePartsReachTheDaemon(t *testing.T) {
	r, err := ofService("ap1/ns1/web", "/v1/services/", "/leaf")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.path+"?"+r.query.Encode(), "/v1/services/web/leaf?ns=ns1&partition=ap1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHoldCoversTheDaemonsWait(t *testing.T) {
	for _, c := range []struct {
		index      uint64
		wait, want time.Duration
	}{
		{0, 0, 30 * time.Second},
		{0, time.Hour, 30 * time.Second},
		{7, 0, time.Minute + time.Minute/16},
		{7, time.Second, 30 * time.Second},
		{7, 10 * time.Minute, 10*time.Minute + 10*time.Minute/16},
	} {
		if got := get("/").blocking(c.index, c.wait).hold; got != c.want {
			t.Errorf("index %d, wait %s: got %s, want %s", c.index, c.wait, got, c.want)
		}
	}
}

func TestBadAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for _, c := range []struct{ name, answer, code, want string }{
		{"not_http", "hello\n", CodeUnreachable, "went away"},
		{"nothing", "", CodeUnreachable, "went away"},
		{"garbage", head + "Content-Length: 4\r\n\r\n\x00\x01{}", CodeInvalidAnswer, "same release"},
		{"trailing", head + "Content-Length: 5\r\n\r\n{} {}", CodeInvalidAnswer, "same release"},
		{"wrong_type", head + "Content-Length: 13\r\n\r\n{\"index\":\"x\"}", CodeInvalidAnswer, "index"},
		{"truncated", head + "Content-Length: 400\r\n\r\n{\"index\":1}", CodeUnreachable, "complete"},
		{"truncated_chunks", head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"ind", CodeUnreachable, "complete"},
		{"no_length", head + "\r\n{\"index\":1}", CodeInvalidAnswer, "no length"},
		{"oversized", head + "Content-Length: 67108865\r\n\r\n{", CodeInvalidAnswer, "larger than 67108864"},
		{"foreign_error", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found", CodeInvalidAnswer, "404 Not Found"},
		{"empty_error", "HTTP/1.1 500 Oops\r\nContent-Length: 12\r\n\r\n{\"error\":{}}", CodeInvalidAnswer, "500 Oops"},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", CodeInvalidAnswer, "302"},
		{"large_header", head + "X: " + strings.Repeat("x", 20<<10) + "\r\nContent-Length: 2\r\n\r\n{}", CodeUnreachable, "went away"},
		{"not_complete", head + "Content-Length: 2\r\n\r\n{}", CodeInvalidAnswer, "not complete"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := serveRaw(t, c.answer)
			_, err := client.Snapshot(t.Context(), "web", SnapshotOptions{})
			e := asError(t, err)
			if e.Code != c.code || !strings.Contains(e.Message, c.want) {
				t.Errorf("got %+v, want %s with %q", e, c.code, c.want)
			}
		})
	}
}

func TestBodyIsLimitedWithoutItsLength(t *testing.T) {
	c := clientOf(t, socketPath(t))
	_, err := c.readBody(&http.Response{
		ContentLength: -1, TransferEncoding: []string{"chunked"}, Body: io.NopCloser(zeros{}),
	}, 1<<10)
	if e := asError(t, err); e.Code != CodeInvalidAnswer {
		t.Errorf("got %+v", e)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestUnknownMembersAreIgnored(t *testing.T) {
	body := `{"live":true,"later":{"a":[1]}}`
	c := serveRaw(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	if got, err := c.Health(t.Context()); err != nil || !got.Live {
		t.Errorf("got %+v and %v", got, err)
	}
}

// silent accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	socket := socketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return socket
}

func TestTheCallersContextIsNotTheDaemonsFault(t *testing.T) {
	c := clientOf(t, silent(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Health(ctx)
	var e *Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestADaemonThatDoesNotAnswerIsUnreachable(t *testing.T) {
	c, err := NewClient(Config{Socket: silent(t), Timeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Health(t.Context())
	if e := asError(t, err); e.Code != CodeUnreachable || !strings.Contains(e.Message, "no answer") {
		t.Errorf("got %+v", e)
	}
}

func TestAnIdleConnectionThatWasClosedIsNoError(t *testing.T) {
	c, _ := startDaemon(t)
	q := Question{Destination: "db", Source: sourceID("web")}
	if _, err := c.Authorize(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	// The dialer's connections are the client's own, so closing them under it
	// is what a daemon does whose idle time is over.
	var opened []net.Conn
	dial := c.transport.DialContext
	c.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		opened = append(opened, conn)
		return conn, err
	}
	c.Close()
	if _, err := c.Authorize(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	for _, conn := range opened {
		_ = conn.Close()
	}
	if d, err := c.Authorize(t.Context(), q); err != nil || !d.Allowed {
		t.Errorf("got %+v and %v", d, err)
	}
}
