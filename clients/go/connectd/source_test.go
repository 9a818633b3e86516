package connectd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
)

func TestSourceFollowsChanges(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	s := w.source("db")
	web, cart := sourceID("web"), sourceID("cart")
	first := s.Snapshot()
	if got := first.Decide(web, nil); !got.Allowed || got.Reason != "intention" || got.Freshness != Fresh {
		t.Errorf("got %+v", got)
	}
	if got := first.Decide(cart, nil); got.Decision != PerRequest || got.Allowed {
		t.Errorf("got %+v", got)
	}
	request := &intentions.Request{Method: "GET", Path: "/v1/x"}
	got := first.Decide(cart, request)
	if m := got.MatchedRule(); !got.Allowed || m == nil || m.Permission == nil || *m.Permission != 0 || m.Source != "default/cart" {
		t.Errorf("got %+v, matched %+v", got, m)
	}
	w.write(`Kind = "service-intentions" Name = "db" Sources = [{ Name = "web" Action = "deny" }]`)
	until(t, s, "web denied", func(n *Snapshot) bool { return n.Decide(web, nil).Decision == Deny })
	if got := first.Decide(web, nil); !got.Allowed {
		t.Errorf("a snapshot changed: %+v", got)
	}
	serial := first.leaf.serial
	if s.Snapshot().leaf.serial != serial || s.Snapshot().bundle != first.bundle {
		t.Error("what did not change was not taken over")
	}
	if err := w.authority.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, s, "another leaf", func(n *Snapshot) bool { return n.leaf.serial != serial })
}

func TestNilSnapshotDenies(t *testing.T) {
	var s *Snapshot
	if got := s.Decide(sourceID("web"), nil); got.Decision != Deny || got.Reason != ReasonNotReady {
		t.Errorf("got %+v", got)
	}
	if _, err := s.Certificate(); asError(t, err).Code != CodeNotReady {
		t.Errorf("got %v", err)
	}
}

func TestSourceSurvivesTheDaemon(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	s := w.source("db")
	for range 3 {
		before := s.Snapshot().Index()
		w.stop()
		if got := s.Snapshot().Decide(sourceID("web"), nil); !got.Allowed {
			t.Errorf("got %+v", got)
		}
		w.start()
		until(t, s, "another index", func(n *Snapshot) bool { return n.Index() != before })
	}
}

func TestNewSourceWithoutDaemon(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := NewSource(ctx, "db", WithConfig(Config{Socket: socketPath(t)}), WithLogger(discard()))
	if e := asError(t, err); e.Code != CodeUnreachable {
		t.Errorf("got %v", err)
	}
	if _, err := NewSource(ctx, "no service"); asError(t, err).Code != CodeBadRequest {
		t.Errorf("got %v", err)
	}
}

func TestClosedSourceDenies(t *testing.T) {
	s := newWorld(t, webMayReachDB).source("db")
	before := s.Snapshot()
	s.Close()
	s.Close()
	if got := before.Decide(sourceID("web"), nil); got.Decision != Deny || got.Reason != ReasonPolicyStale {
		t.Errorf("got %+v", got)
	}
}

// scripted serves answers on a socket in the place of the daemon.
func scripted(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	socket := socketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return clientOf(t, socket)
}

// material is a snapshot of db as the daemon sends it, to be changed.
func material(t testing.TB) map[string]any {
	t.Helper()
	w := newWorld(t, webMayReachDB)
	defer w.stop()
	c, err := NewClient(Config{Socket: w.socket})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := ofService("db", "/v1/services/", "/snapshot")
	if err != nil {
		t.Fatal(err)
	}
	body, err := c.exchange(t.Context(), r.blocking(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func encoded(t testing.TB, m map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestUnknownRulesAreAskedOverTheSocket(t *testing.T) {
	m := material(t)
	policy := m["policy"].(map[string]any)
	rule := policy["rules"].([]any)[0].(map[string]any)
	for _, r := range policy["rules"].([]any) {
		if r.(map[string]any)["source"].(map[string]any)["name"] == "web" {
			rule = r.(map[string]any)
		}
	}
	rule["from_the_future"] = true
	policy["request_headers"] = []string{"x-a"}
	answer := encoded(t, m)
	var asked atomic.Pointer[Request]
	var away atomic.Bool
	c := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/snapshot"):
			if r.URL.Query().Get("index") != "" {
				<-r.Context().Done()
				return
			}
			_, _ = w.Write(answer)
		case away.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			var q questionWire
			_ = json.NewDecoder(r.Body).Decode(&q)
			asked.Store(q.Request)
			_, _ = w.Write([]byte(`{"decision":"allow","allowed":true,"reason":"permission"}`))
		}
	})
	s := startSource(c, intentions.NewService("db"), sourceOptions{logger: discard()})
	defer s.Close()
	now := until(t, s, "a snapshot", func(*Snapshot) bool { return true })
	request := &intentions.Request{Method: "GET", Path: "/", Host: "h", Headers: http.Header{"X-A": {"1"}, "Authorization": {"2"}}}
	if got := now.Decide(sourceID("web"), request); !got.Allowed {
		t.Errorf("got %+v", got)
	}
	if got := asked.Load(); got == nil || len(got.Headers) != 1 || got.Headers["x-a"][0] != "1" {
		t.Errorf("asked %+v", got)
	}
	away.Store(true)
	if got := now.Decide(sourceID("web"), nil); got.Decision != Deny || got.Reason != ReasonUnreachable {
		t.Errorf("got %+v", got)
	}
}

func TestMalformedAnswersAreRefused(t *testing.T) {
	good := encoded(t, material(t))
	foreign := encoded(t, material(t))
	var other map[string]any
	if err := json.Unmarshal(foreign, &other); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(m map[string]any)
	}{
		{"no_schema", func(m map[string]any) { delete(m, "schema") }},
		{"no_index", func(m map[string]any) { delete(m, "index") }},
		{"other_service", func(m map[string]any) { m["service"].(map[string]any)["name"] = "web" }},
		{"negative_age", func(m map[string]any) { m["age_seconds"] = -1 }},
		{"no_bundle", func(m map[string]any) { delete(m, "bundle") }},
		{"no_roots", func(m map[string]any) { m["bundle"].(map[string]any)["roots"] = []any{} }},
		{"foreign_bundle", func(m map[string]any) { m["bundle"] = other["bundle"] }},
		{"foreign_leaf", func(m map[string]any) { m["leaf"] = other["leaf"] }},
		{"foreign_key", func(m map[string]any) {
			m["leaf"].(map[string]any)["private_key_pem"] = other["leaf"].(map[string]any)["private_key_pem"]
		}},
		{"no_policy", func(m map[string]any) { delete(m, "policy") }},
		{"no_rules", func(m map[string]any) { delete(m["policy"].(map[string]any), "rules") }},
		{"other_destination", func(m map[string]any) {
			m["policy"].(map[string]any)["destination"].(map[string]any)["name"] = "web"
		}},
		{"other_trust_domain", func(m map[string]any) { m["policy"].(map[string]any)["trust_domain"] = "x.consul" }},
		{"no_leaf_and_no_reason", func(m map[string]any) { delete(m, "leaf") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m map[string]any
			if err := json.Unmarshal(good, &m); err != nil {
				t.Fatal(err)
			}
			tt.change(m)
			got, err := readSnapshot(encoded(t, m), loose(), nil)
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			if key := m["leaf"]; key != nil && strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
	if _, err := readSnapshot(good, loose(), nil); err != nil {
		t.Error(err)
	}
}

// loose is a source of db that asks nobody.
func loose() *Source {
	return &Source{service: intentions.NewService("db"), watch: startStopwatch(), options: sourceOptions{logger: discard()}}
}

func TestOldSnapshotIsKeptAfterAMalformedAnswer(t *testing.T) {
	good := encoded(t, material(t))
	c := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("index") == "" && r.URL.Query().Get("have_leaf") == "" {
			_, _ = w.Write(good)
			return
		}
		_, _ = w.Write([]byte(`{"schema":1}`))
	})
	s := startSource(c, intentions.NewService("db"), sourceOptions{logger: discard()})
	defer s.Close()
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for s.Err() == nil {
		// The second answer is on its way.
		<-time.After(time.Millisecond)
	}
	if got := s.Snapshot().Decide(sourceID("web"), nil); !got.Allowed || asError(t, s.Err()).Code != CodeInvalidAnswer {
		t.Errorf("got %+v, %v", got, s.Err())
	}
}

func TestPolicyGrowsStaleWithoutTheDaemon(t *testing.T) {
	m := material(t)
	m["age_seconds"], m["deny_after_seconds"] = 10, 60
	answer := encoded(t, m)
	synctest.Test(t, func(t *testing.T) {
		served := 0
		c, err := NewClient(Config{Socket: "unused"})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		c.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			if served++; served > 1 {
				return nil, unreachable("unused", context.DeadlineExceeded)
			}
			here, there := net.Pipe()
			go func() {
				defer close(done)
				serveOnce(there, answer)
			}()
			return here, nil
		}
		// The leaf has the dates of the real world, so only the policy is asked.
		s := startSource(c, intentions.NewService("db"), sourceOptions{logger: discard()})
		defer func() { s.Close(); <-done }()
		if err := s.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(48 * time.Second)
		if got := s.Snapshot().Decide(sourceID("web"), nil); !got.Allowed || got.AgeSeconds < 56 || got.AgeSeconds > 59 {
			t.Errorf("after 48 s got %+v", got)
		}
		time.Sleep(4 * time.Second)
		if got := s.Snapshot().Decide(sourceID("web"), nil); got.Decision != Deny || got.Reason != ReasonPolicyStale {
			t.Errorf("after 52 s got %+v", got)
		}
	})
}

func TestDecisionsFromAConnectionAllocateNothing(t *testing.T) {
	w := newWorld(t, webMayReachDB)
	now := w.source("db").Snapshot()
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{w.source("web").Snapshot().leaf.certificate.Leaf}}
	cart := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{w.source("cart").Snapshot().leaf.certificate.Leaf}}
	request := &intentions.Request{Method: "GET", Path: "/v1/x", Headers: http.Header{"X-A": {"1"}}}
	for _, tt := range []struct {
		name   string
		decide func() Decision
	}{
		{"connection", func() Decision { return now.DecideConn(state) }},
		{"request", func() Decision { return now.DecideRequest(cart, request) }},
		{"uri", func() Decision {
			return now.Decide("spiffe://connectd-development.consul/ns/default/dc/dc1/svc/web", nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got Decision
			if n := testing.AllocsPerRun(200, func() { got = tt.decide() }); n != 0 || !got.Allowed {
				t.Errorf("got %v allocations, %+v", n, got)
			}
		})
	}
}

func BenchmarkDecideConn(b *testing.B) {
	w := newWorld(b, webMayReachDB)
	now := w.source("db").Snapshot()
	state := func(service string) *tls.ConnectionState {
		leaf := w.source(service).Snapshot().leaf.certificate.Leaf
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	}
	web, cart := state("web"), state("cart")
	request := &intentions.Request{Method: "GET", Path: "/v1/x", Headers: http.Header{"X-A": {"1"}}}
	b.Run("connection", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !now.DecideConn(web).Allowed {
				b.Fatal("denied")
			}
		}
	})
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !now.DecideRequest(cart, request).Allowed {
				b.Fatal("denied")
			}
		}
	})
	b.Run("map-lookup", func(b *testing.B) {
		names := map[string]int{sourceID("web"): 1, sourceID("cart"): 2}
		key := sourceID("web")
		for b.Loop() {
			if names[key] != 1 {
				b.Fatal("missing")
			}
		}
	})
}

func FuzzSnapshotAnswer(f *testing.F) {
	m := material(f)
	f.Add(encoded(f, m))
	m["leaf_error"] = "expired"
	delete(m, "leaf")
	f.Add(encoded(f, m))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := readSnapshot(body, loose(), nil)
		if err != nil {
			return
		}
		// Whatever is accepted can be used without a panic, and lets nobody in
		// from elsewhere.
		_, _ = s.Certificate()
		if s.Decide("spiffe://elsewhere.invalid/ns/default/dc/dc1/svc/web", nil).Allowed {
			t.Error("a foreign trust domain is allowed")
		}
	})
}

// FuzzOtherAnswers reads what the daemon says of instances and decisions.
func FuzzOtherAnswers(f *testing.F) {
	f.Add([]byte(`{"index":1,"instances":[{"id":"db","address":"10.0.0.1","port":1,"spiffe_id":"` + sourceID("db") + `"}]}`))
	f.Add([]byte(`{"decision":"allow","allowed":true,"reason":"intention"}`))
	f.Add([]byte(`{"error":{"code":"not_ready","message":"x"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var found Discovery
		if json.Unmarshal(body, &found) == nil {
			for i := range found.Instances {
				in := &found.Instances[i]
				if in.check(Destination{Service: "db"}) != nil {
					continue
				}
				if id, err := intentions.ParseID(in.SPIFFEID); err != nil || !strings.EqualFold(id.Service.Name, "db") {
					t.Errorf("an instance of db is %q", in.SPIFFEID)
				}
			}
		}
		var a answerWire
		if json.Unmarshal(body, &a) == nil {
			if got := a.answer(); got.Decision.Allowed != (got.Decision.Decision == Allow) || got.Err != nil && got.Decision.Allowed {
				t.Errorf("got %+v", got)
			}
		}
	})
}
