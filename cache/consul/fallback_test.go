package consul

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

func self(policy string, acls bool, aclPolicy string) string {
	return fmt.Sprintf(`{"Config":{"Datacenter":"dc1","NodeName":"n1"},"DebugConfig":{"DefaultIntentionPolicy":%q,`+
		`"ACLsEnabled":%v,"ACLResolverSettings":{"ACLDefaultPolicy":%q}}}`, policy, acls, aclPolicy)
}

// TestDefaultActionIsRead goes through what an agent can say of itself.
func TestDefaultActionIsRead(t *testing.T) {
	allow, deny := true, false
	agent, acl, unknown := intentions.OriginAgent, intentions.OriginACL, intentions.OriginUnknown
	for _, c := range []struct {
		name, self string
		want       intentions.DefaultAction
	}{
		{"acl_off", self("", false, "allow"), intentions.DefaultAction{Allow: allow, Origin: acl}},
		{"acl_off_policy_deny", self("deny", false, "allow"), intentions.DefaultAction{Allow: deny, Origin: agent}},
		{"acl_off_policy_allow", self("allow", false, "deny"), intentions.DefaultAction{Allow: allow, Origin: agent}},
		{"acl_deny", self("", true, "deny"), intentions.DefaultAction{Allow: deny, Origin: acl}},
		{"acl_allow", self("", true, "allow"), intentions.DefaultAction{Allow: allow, Origin: acl}},
		{"acl_deny_policy_allow", self("allow", true, "deny"), intentions.DefaultAction{Allow: allow, Origin: agent}},
		{"acl_allow_policy_deny", self("deny", true, "allow"), intentions.DefaultAction{Allow: deny, Origin: agent}},
		{"acl_odd", self("", true, "extend-cache"), intentions.DefaultAction{Allow: deny, Origin: acl}},
		{"policy_odd", self("ALLOW", false, "allow"), intentions.DefaultAction{Allow: deny, Origin: agent}},
		// What is missing must not be taken for a setting that allows. There is
		// nothing to probe with, so the action is deny.
		{"no_acl_switch", strings.Replace(self("", false, "allow"), `"ACLsEnabled":false,`, "", 1),
			intentions.DefaultAction{Origin: unknown}},
		{"no_policy", strings.Replace(self("", false, "allow"), `"DefaultIntentionPolicy":"",`, "", 1),
			intentions.DefaultAction{Origin: unknown}},
		{"no_acl_policy", `{"Config":{"NodeName":"n1"},"DebugConfig":{"DefaultIntentionPolicy":"","ACLsEnabled":true}}`,
			intentions.DefaultAction{Origin: unknown}},
		{"no_debug_config", `{"Config":{"NodeName":"n1"}}`, intentions.DefaultAction{Origin: unknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.self = c.self
				to := f.run(f.source(Config{}))
				pass(5 * time.Second)
				if got := to.fallback(); got == nil || *got != c.want {
					t.Errorf("got %+v, want %+v", got, c.want)
				}
				if failed := to.failure(cache.WatchDefault, "") != nil; failed != (c.want.Origin == unknown) {
					t.Errorf("got failure %v", to.failure(cache.WatchDefault, ""))
				}
			})
		})
	}
}

// TestDefaultActionIsProbed has a token that may not read the agent.
func TestDefaultActionIsProbed(t *testing.T) {
	agent, acl, unknown := intentions.OriginAgent, intentions.OriginACL, intentions.OriginUnknown
	for _, c := range []struct {
		name, answer string
		status       int
		want         intentions.DefaultAction
	}{
		{"policy_allow", `{"Authorized":true,"Reason":"Default intention policy"}`, 200, intentions.DefaultAction{Allow: true, Origin: agent}},
		{"policy_deny", `{"Authorized":false,"Reason":"Default intention policy"}`, 200, intentions.DefaultAction{Origin: agent}},
		{"acl_allow", `{"Authorized":true,"Reason":"Default behavior configured by ACLs"}`, 200, intentions.DefaultAction{Allow: true, Origin: acl}},
		{"acl_deny", `{"Authorized":false,"Reason":"Default behavior configured by ACLs"}`, 200, intentions.DefaultAction{Origin: acl}},
		{"refused", "Permission denied", 403, intentions.DefaultAction{Origin: unknown}},
		{"writes_restricted", "Access is restricted", 403, intentions.DefaultAction{Origin: unknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				to := f.run(f.unreadable(t, c.status, c.answer), policies("a", "web")...)
				pass(5 * time.Second)
				if got := to.fallback(); got == nil || *got != c.want {
					t.Errorf("got %+v, want %+v", got, c.want)
				}
				for _, x := range f.requests(authorizePath, time.Time{}) {
					if x.token != "for-web" || x.method != http.MethodPost {
						t.Errorf("probed with %s and token %q", x.method, x.token)
					}
				}
			})
		})
	}
}

// unreadable makes a source whose read token may not read the agent, and
// answers the probe.
func (f *fake) unreadable(t *testing.T, status int, body string) *Source {
	f.answer("/v1/agent/", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case selfPath:
			say(w, 403, "", "Permission denied")
		case authorizePath:
			raw, _ := io.ReadAll(r.Body)
			if !strings.Contains(string(raw), `"Target":"web"`) {
				t.Errorf("probed with %s", raw)
			}
			say(w, status, "", body)
		default:
			f.serve(w, r)
		}
	})
	return f.source(Config{ServiceTokenFiles: map[intentions.Service]string{web: tokenFile(t, "for-web")}})
}

// TestProbeThatSaysNothing keeps the old value: an intention that answers, an
// error, or an unknown reason is no default action.
func TestProbeThatSaysNothing(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"intention": {200, `{"Authorized":true,"Reason":"Matched L4 intention: default/* => default/web"}`},
		"empty":     {200, `{}`}, "error": {500, "no"}, "garbage": {200, "<html>"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				to := f.run(f.unreadable(t, c.status, c.body), policies("web")...)
				pass(5 * time.Minute)
				if got := to.fallback(); got != nil || to.kind(cache.WatchDefault, "") == "" {
					t.Errorf("got %+v and failure %v", got, to.failure(cache.WatchDefault, ""))
				}
				if n := len(f.requests(authorizePath, time.Time{})); n > 30 {
					t.Errorf("probed %d times in five minutes", n)
				}
			})
		})
	}
}

// TestEnterpriseIsNotProbed has an agent that knows namespaces, where the
// probe's impossible namespace could exist.
func TestEnterpriseIsNotProbed(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{"leader": {200, `"127.0.0.1:8300"`}, "namespace_error": {400, "no such namespace"}, "away": {500, "No cluster leader"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.leader = func(w http.ResponseWriter, r *http.Request) { say(w, c.status, "", c.body) }
				to := f.run(f.unreadable(t, 200, `{"Authorized":true,"Reason":"Default intention policy"}`), policies("web")...)
				pass(5 * time.Minute)
				if n := len(f.requests(authorizePath, time.Time{})); n != 0 {
					t.Errorf("probed %d times", n)
				}
				if got := to.fallback(); got != nil && got.Allow || (got == nil) != (c.status == 500) {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

// TestDefaultActionIsFollowed changes the agent's setting, and takes the right
// to read it away.
func TestDefaultActionIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.self = self("", true, "deny")
		to := f.run(f.source(Config{}))
		pass(5 * time.Second)
		f.change(func() { f.self = self("allow", true, "deny") })
		pass(defaultEvery)
		if d := to.fallback(); !d.Allow || d.Origin != intentions.OriginAgent {
			t.Errorf("got %+v", d)
		}
		f.answer(selfPath, func(w http.ResponseWriter, r *http.Request) { say(w, 500, "", "no") })
		pass(time.Hour)
		if d := to.fallback(); !d.Allow {
			t.Error("an error changed the default action")
		}
		f.answer(selfPath, func(w http.ResponseWriter, r *http.Request) { say(w, 403, "", "Permission denied") })
		pass(2 * defaultEvery)
		if d := to.fallback(); d.Allow || d.Origin != intentions.OriginUnknown {
			t.Errorf("got %+v from an agent that does not tell", d)
		}
	})
}

// TestProbeTargetIsAlwaysTheSame has many services with tokens and wants none.
func TestProbeTargetIsAlwaysTheSame(t *testing.T) {
	c := Config{Address: "http://127.0.0.1:8500", ServiceTokenFiles: map[intentions.Service]string{}}
	path := tokenFile(t, "x")
	for _, name := range names("web", 20) {
		c.ServiceTokenFiles[intentions.NewService(name)] = path
	}
	s := must(New(c))(t)
	for range 50 {
		if got, ok := s.probeTarget(newFeed()); !ok || got.Name != "web-0000" {
			t.Fatalf("got %v, %v", got, ok)
		}
	}
}

// TestLocalServices follows registrations, and a token that loses its rights.
func TestLocalServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		one := func(id, name string) string {
			return fmt.Sprintf(`%q:{"ID":%q,"Service":%q,"Connect":{"Native":true},"Datacenter":"dc1"}`, id, id, name)
		}
		filtered := false
		f.answer(servicesPath, func(w http.ResponseWriter, r *http.Request) {
			if filtered {
				w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			}
			f.serve(w, r)
		})
		to := f.run(f.source(Config{}))
		for _, c := range []struct {
			services string
			filtered bool
			want     string
		}{
			{"{}", false, "[]"},
			{`{` + one("b", "db") + `,` + one("a", "web") + `,"c":{"ID":"c","Service":"plain"}}`, false, "[web db]"},
			{`{` + one("a", "web") + `}`, true, "[web db]"},
			{`{` + one("c", "api") + `}`, true, "[web db api]"},
			{"{}", true, "[web db api]"},
			{`{` + one("c", "api") + `}`, false, "[api]"},
			{`{` + one("c", "api") + `,` + one("d", "has space") + `}`, false, "[api]"},
			{"{}", false, "[]"},
		} {
			f.change(func() { f.services, filtered = c.services, c.filtered })
			pass(localEvery + time.Millisecond)
			if got := fmt.Sprint(to.local()); got != c.want {
				t.Errorf("for %s, filtered %v: got %s, want %s", c.services, c.filtered, got, c.want)
			}
			if got := to.kind(cache.WatchLocal, ""); (got == cache.FailureFiltered) != c.filtered {
				t.Errorf("for %s, filtered %v: got failure %q", c.services, c.filtered, got)
			}
		}
	})
}

// TestNormalizationIsKept sets the mesh's normalization, and then lets every
// question about it fail. Only the end of the entry brings the defaults back.
func TestNormalizationIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.mesh = f.good()["mesh"]
		to := f.run(f.source(Config{}))
		merges := func() bool {
			n, _ := newest(to, func(u cache.Update) (*intentions.Normalization, bool) { return u.Normalization, u.Normalization != nil })
			return n != nil && n.MergeSlashes
		}
		pass(5 * time.Second)
		if !merges() {
			t.Fatal("the entry is not read")
		}
		for status, body := range map[int]string{200: "{}", 403: "ACL not found", 404: "404 page not found", 500: "no"} {
			f.answer(meshPath, func(w http.ResponseWriter, r *http.Request) { say(w, status, "7", body) })
			pass(3 * defaultEvery)
			if !merges() {
				t.Errorf("the answer %d %s brought the defaults back", status, body)
			}
		}
		f.heal()
		f.change(func() { f.mesh = "" })
		pass(3 * defaultEvery)
		if merges() {
			t.Error("the end of the entry is not seen")
		}
	})
}
