package socketapi_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

func (c *contract) testWrongRequests(t *testing.T) {
	k := c.start(t, setup{})
	long := strings.Repeat("x", 300)
	for _, path := range []string{
		"/v1/services/web/snapshot?index=x", "/v1/services/web/leaf?index=-1", "/v1/services/web/policy?wait=long",
		"/v1/bundle?wait=-1s", "/v1/bundle?index=18446744073709551616", "/v1/services/a@b/ready",
		"/v1/services/web/ready?ns=a/b", "/v1/services/web/ready?partition=" + long, "/v1/services/" + long + "/snapshot",
		"/v1/discovery/a@b", "/v1/discovery/web?dc=a/b", "/v1/discovery/web?query=a/b",
	} {
		k.fails(http.MethodGet, path, "", http.StatusBadRequest, "bad_request")
	}
	for _, body := range []string{
		"", "null", "[]", "{", "{}", `{"destination":1}`, `{"requests":{}}`, question(trusted+"web", "a b", ""),
		question("", "db", ""), question(trusted+"web", "db", "") + "{}", question(trusted+"web", "db", "") + "}", "\xff",
	} {
		k.fails(http.MethodPost, "/v1/authorize", body, http.StatusBadRequest, "bad_request")
	}
	k.fails(http.MethodPost, "/v1/authorize?ns=a/b", question(trusted+"web", "db", ""), http.StatusBadRequest, "bad_request")
	k.fails(http.MethodPost, "/v1/authorize", question(trusted+"web", "foreign", ""), http.StatusForbidden, "forbidden")

	many := strings.TrimSuffix(strings.Repeat("{},", 257), ",")
	k.fails(http.MethodPost, "/v1/authorize", `{"requests":[`+many+`]}`, http.StatusRequestEntityTooLarge, "too_large")
	for _, body := range []string{
		question(trusted+strings.Repeat("x", 64<<10), "db", ""), question(trusted+"web", "db", "") + strings.Repeat(" ", 64<<10),
	} {
		k.fails(http.MethodPost, "/v1/authorize", body, http.StatusRequestEntityTooLarge, "too_large")
	}
}

// testEveryRoute tries on all routes what all have in common.
func (c *contract) testEveryRoute(t *testing.T) {
	open := c.start(t, setup{})
	none := c.start(t, setup{admission: admit(func(socketapi.Grant, intentions.Service) bool { return false })})
	defect := c.start(t, setup{admission: admit(func(socketapi.Grant, intentions.Service) bool { panic("defect") })})
	for _, r := range open.server.Routes() {
		if r.Consul {
			continue
		}
		path := strings.Replace(r.Pattern, "{service}", "web", 1)
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodHead, http.MethodOptions} {
			if method == r.Method {
				continue
			}
			open.fails(method, path, "", http.StatusMethodNotAllowed, map[bool]string{true: "", false: "method_not_allowed"}[method == http.MethodHead])
		}
		if r.Grant != socketapi.GrantNone {
			none.fails(r.Method, path, "", http.StatusForbidden, "forbidden")
			defect.fails(r.Method, path, "", http.StatusInternalServerError, "internal")
		}
	}
}

func (c *contract) testUnknownRoute(t *testing.T) {
	k := c.start(t, setup{})
	for _, path := range []string{"/", "/v1", "/v1/kv/x", "/v1/status/", "/v1/services/web", "/v1/report"} {
		k.fails(http.MethodGet, path, "", http.StatusNotFound, "no_such_route")
		k.fails(http.MethodPost, path, "{}", http.StatusNotFound, "no_such_route")
	}
	for _, path := range []string{"/v1//status", "/v1/../healthz", "/v1/./bundle", "/v1/services/a%2fb/leaf", "/x;y", "/v1/services/%C3%A4/leaf"} {
		k.fails(http.MethodGet, path, "", http.StatusBadRequest, "bad_request")
	}
	if !c.produced["GET * 404"] {
		t.Error("no answer was checked against NoSuchRoute")
	}
}

// piecemeal is a source where one service stays without material and one is
// refused by upstream.
func piecemeal(t testing.TB) *withholding {
	t.Helper()
	s := newSource(t, devca.Config{Intentions: samples, Services: localServices})
	s.names = []string{"pending", "denied"}
	s.conditions = []cache.Condition{
		refused(cache.WatchLeaf, intentions.NewService("denied")),
		{Watch: cache.WatchLocal, Failure: &cache.Failure{Kind: cache.FailureThrottled, Message: "Consul throttles"}},
	}
	return s
}

// testFailures asks what is answered at once.
func (c *contract) testFailures(t *testing.T) {
	k := c.start(t, setup{source: piecemeal(t), config: cache.Config{
		Services: []intentions.Service{intentions.NewService("pending"), intentions.NewService("denied")},
	}})
	k.get("/v1/services/web/snapshot", http.StatusOK)
	k.fails(http.MethodGet, "/v1/services/pending/ready", "", http.StatusServiceUnavailable, "not_ready")
	k.fails(http.MethodGet, "/v1/services/unknown/ready", "", http.StatusServiceUnavailable, "not_ready")
	k.fails(http.MethodGet, "/v1/services/denied/ready", "", http.StatusBadGateway, "upstream_refused")
	s := k.get("/v1/status", http.StatusOK)
	if s.State != "degraded" || len(s.Problems) != 2 {
		t.Errorf("got state %q with %d problems, want degraded with 2", s.State, len(s.Problems))
	}
}

// bubble runs a test where time passes at once. Connections are pipes there,
// because nothing tells a bubble that a socket will stay silent.
func bubble(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) { test(t) })
}

// testHeld asks what is held for first material that does not come.
func (c *contract) testHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k := c.start(t, setup{source: piecemeal(t), piped: true})
		for _, x := range []struct {
			service, code string
			status        int
		}{{"pending", "not_ready", http.StatusServiceUnavailable}, {"denied", "upstream_refused", http.StatusBadGateway}} {
			for _, part := range []string{"snapshot", "leaf", "policy"} {
				k.fails(http.MethodGet, "/v1/services/"+x.service+"/"+part, "", x.status, x.code)
			}
			k.fails(http.MethodPost, "/v1/authorize", question(trusted+"web", x.service, ""), x.status, x.code)
		}
		begin := time.Now()
		one := question(trusted+"web", "pending", "")
		batch := k.ask(http.MethodPost, "/v1/authorize", `{"requests":[`+one+","+question(trusted+"web", "db", "")+","+one+`]}`, http.StatusOK)
		if d := batch.Decisions; d[0].Error.Code != "not_ready" || !d[1].Allowed || d[2].Error.Code != "not_ready" {
			t.Errorf("got %+v", d)
		}
		if held := time.Since(begin); held != 30*time.Second {
			t.Errorf("the batch was held for %s, want 30 s for all of it", held)
		}
	})
}

func (c *contract) testNothingKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k := c.start(t, setup{source: mute{}, piped: true})
		k.get("/healthz", http.StatusOK)
		k.fails(http.MethodGet, "/readyz", "", http.StatusServiceUnavailable, "not_ready")
		k.fails(http.MethodGet, "/v1/bundle", "", http.StatusServiceUnavailable, "not_ready")
		k.fails(http.MethodGet, "/v1/discovery/web", "", http.StatusServiceUnavailable, "not_ready")
		k.get("/v1/services", http.StatusOK)
		if s := k.get("/v1/status", http.StatusOK); s.State != "failing" {
			t.Errorf("got state %q without a trust bundle", s.State)
		}
	})
	bubble(t, func(t *testing.T) {
		k := c.start(t, setup{source: mute{refused(cache.WatchBundle, intentions.Service{})}, piped: true})
		k.fails(http.MethodGet, "/v1/bundle", "", http.StatusBadGateway, "upstream_refused")
	})
}

func (c *contract) testTooManyNames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k := c.start(t, setup{piped: true})
		for n := range 100 {
			path := "/v1/services/n" + strconv.Itoa(n)
			k.get(path+"/policy", http.StatusOK)
			if n < 10 {
				k.get(path+"/snapshot", http.StatusOK)
			}
		}
		for _, part := range []string{"snapshot", "leaf", "policy"} {
			k.fails(http.MethodGet, "/v1/services/n100/"+part, "", http.StatusTooManyRequests, "too_many_requests")
		}
		k.fails(http.MethodPost, "/v1/authorize", question(trusted+"web", "n100", ""), http.StatusTooManyRequests, "too_many_requests")
		k.get("/v1/services/n7/snapshot", http.StatusOK)
	})
}

// testExpired lets upstream fall silent and time pass.
func (c *contract) testExpired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		source := newSource(t, devca.Config{Intentions: samples, Services: localServices, LeafLifetime: 5 * time.Minute})
		k := c.start(t, setup{source: source, piped: true, config: cache.Config{MaxStale: 10 * time.Minute}})
		valid := k.get("/v1/services/db/snapshot", http.StatusOK)
		close(source.silent)
		<-time.After(4 * time.Minute)
		if s := k.get("/v1/services/db/snapshot", http.StatusOK); s.Freshness != "stale" || s.Leaf == nil {
			t.Errorf("got freshness %q after four minutes of silence", s.Freshness)
		}
		k.get("/v1/services/db/ready", http.StatusOK)
		<-time.After(2 * time.Minute)
		k.fails(http.MethodGet, "/v1/services/db/leaf", "", http.StatusGone, "leaf_expired")
		s := k.get("/v1/services/db/snapshot?index="+strconv.FormatUint(valid.Index, 10), http.StatusOK)
		if s.Leaf != nil || s.LeafError != "expired" || len(s.Policy.Rules) != 2 {
			t.Errorf("got leaf %v, leaf error %q and %d rules", s.Leaf, s.LeafError, len(s.Policy.Rules))
		}
		k.fails(http.MethodGet, "/v1/services/db/ready", "", http.StatusServiceUnavailable, "not_ready")
		if s := k.get("/v1/status", http.StatusOK); s.State != "failing" {
			t.Errorf("got state %q with an expired leaf", s.State)
		}
		if got := k.authorize("", trusted+"web", "db", ""); got != "allow intention" {
			t.Errorf("got %q within the bound", got)
		}
		<-time.After(5 * time.Minute)
		if got := k.authorize("", trusted+"web", "db", ""); got != "deny policy_stale" {
			t.Errorf("got %q past the bound", got)
		}
	})
}

// testStopping stops a server that holds a request.
func (c *contract) testStopping(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k := c.start(t, setup{source: mute{}, piped: true})
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			k.fails(http.MethodGet, "/v1/bundle", "", http.StatusServiceUnavailable, "shutting_down")
		}()
		synctest.Wait()
		k.stop()
		<-answered
	})
}
