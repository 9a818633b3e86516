package consul

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

func TestDiscoverAsksRight(t *testing.T) {
	for _, c := range []struct {
		name   string
		lookup cache.Lookup
		path   string
		query  url.Values
	}{
		{"mesh", cache.Lookup{Service: web, Mesh: true}, "/v1/health/connect/web", url.Values{"stale": {""}}},
		{"plain", cache.Lookup{Service: web}, "/v1/health/service/web", url.Values{"stale": {""}}},
		{"passing_elsewhere", cache.Lookup{Service: web, Passing: true, Datacenter: "dc2"}, "/v1/health/service/web",
			url.Values{"stale": {""}, "passing": {"1"}, "dc": {"dc2"}}},
		{"enterprise", cache.Lookup{Service: intentions.Service{Partition: "p", Namespace: "n", Name: "web"}},
			"/v1/health/service/web", url.Values{"stale": {""}, "partition": {"p"}, "ns": {"n"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				s := f.source(Config{})
				defer s.short.CloseIdleConnections()
				f.health = f.good()["health"]
				got, err := s.Discover(t.Context(), c.lookup, nil)
				if err != nil || len(got.Instances) != 1 || string(got.Body) != f.health {
					t.Fatalf("got %+v, %v", got, err)
				}
				if x := f.requests("/", time.Time{})[0]; x.path != c.path || x.query.Encode() != c.query.Encode() {
					t.Errorf("asked for %s?%s, want %s?%s", x.path, x.query.Encode(), c.path, c.query.Encode())
				}
			})
		})
	}
}

func TestDiscoverReadsInstances(t *testing.T) {
	list, err := parseInstances([]byte(`[
		{"Node":{"Node":"n1","Address":"10.0.0.1","Datacenter":"dc1"},"Service":{"ID":"w","Service":"web","Port":80}},
		{"Node":{"Node":"n2","Address":"10.0.0.2","Datacenter":"dc1"},"Service":{"ID":"x","Service":"web","Address":"10.9.9.9","Port":81}},
		{"Node":{"Node":"n3","Address":"10.0.0.3"},"Service":{"Kind":"connect-proxy","ID":"y","Service":"web-proxy",
			"Proxy":{"DestinationServiceName":"web"},"Port":82}}]`))
	if err != nil || len(list) != 3 {
		t.Fatalf("got %+v, %v", list, err)
	}
	for i, address := range []string{"10.0.0.1", "10.9.9.9", "10.0.0.3"} {
		if list[i].Address != address || list[i].Service != web || list[i].Port != 80+i {
			t.Errorf("got instance %+v", list[i])
		}
	}
}

// TestFilteredListIsAnError tells an empty list from one that ACLs emptied.
func TestFilteredListIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.source(Config{})
		defer s.short.CloseIdleConnections()
		for _, c := range []struct {
			body     string
			filtered string
			kind     string
		}{{"[]", "", ""}, {"[]", "true", cache.FailureFiltered}, {f.good()["health"], "true", ""}} {
			f.answer("/", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Consul-Results-Filtered-By-ACLs", c.filtered)
				say(w, 200, "7", c.body)
			})
			_, err := s.Discover(t.Context(), cache.Lookup{Service: web, Mesh: true}, nil)
			if (err != nil) != (c.kind != "") || err != nil && !hasKind(err, c.kind) {
				t.Errorf("%+v: got %v", c, err)
			}
		}
		f.answer("/", func(w http.ResponseWriter, r *http.Request) { say(w, 403, "1", "Permission denied") })
		if _, err := s.Discover(t.Context(), cache.Lookup{Service: web, Mesh: true}, nil); !hasKind(err, cache.FailureRefused) {
			t.Errorf("got %v", err)
		}
	})
}

// TestDiscoverIsPaced calls again and again, as the cache does, on both kinds
// of connection and with an agent that never blocks.
func TestDiscoverIsPaced(t *testing.T) {
	for name, c := range map[string]struct {
		tls     bool
		index   string
		perCall time.Duration
	}{
		"plain": {false, "7", pollLookup}, "held_index_1": {true, "1", idlePause}, "held_no_index": {true, "", idlePause},
		"held_same_index": {true, "7", idlePause},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				var s *Source
				if c.tls {
					s = f.tlsSource()
				} else {
					s = f.source(Config{})
				}
				defer s.held.CloseIdleConnections()
				defer s.short.CloseIdleConnections()
				f.answer("/", func(w http.ResponseWriter, r *http.Request) { say(w, 200, c.index, "[]") })
				began := time.Now()
				var have *cache.Discovered
				for range 100 {
					have = must(s.Discover(t.Context(), cache.Lookup{Service: web}, have))(t)
				}
				if took := time.Since(began); took < 99*c.perCall {
					t.Errorf("100 calls took %s", took)
				}
			})
		})
	}
}

// TestDiscoverIsHeldOverTLS sees a change at once.
func TestDiscoverIsHeldOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.tlsSource()
		defer s.held.CloseIdleConnections()
		have := must(s.Discover(t.Context(), cache.Lookup{Service: web}, nil))(t)
		began := time.Now()
		have = must(s.Discover(t.Context(), cache.Lookup{Service: web}, have))(t)
		if took := time.Since(began); took < wait || len(have.Instances) != 0 {
			t.Errorf("after %s got %+v", took, have)
		}
	})
}

// TestRedirectsAreNotFollowed sends every question to another host, which must
// never see a token.
func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			s := f.source(Config{TokenFile: tokenFile(t, "read")})
			defer s.short.CloseIdleConnections()
			s.bundle.Store(must(parseRoots([]byte(f.roots)))(t))
			f.answer("/v1/", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/stolen" {
					t.Errorf("the redirect was followed with token %q", r.Header.Get("X-Consul-Token"))
				}
				w.Header().Set("Location", "http://evil.example/v1/stolen")
				say(w, status, "7", `"moved"`)
			})
			for _, x := range reads() {
				before := len(f.requests("/", time.Time{}))
				if err := x.ask(t.Context(), s); !hasKind(err, cache.FailureUpstream) {
					t.Errorf("%s, status %d: got %v", x.name, status, err)
				}
				if n := len(f.requests("/", time.Time{})) - before; n != 1 {
					t.Errorf("%s, status %d: %d requests", x.name, status, n)
				}
			}
			got, header, body, err := s.Pass(t.Context(), "/v1/query/x/execute", url.Values{"near": {"_agent"}})
			if err != nil || got != status || !strings.Contains(string(body), "moved") || header.Get("Location") == "" {
				t.Errorf("passed on: got %d, %s, %v", got, body, err)
			}
		})
	}
}
