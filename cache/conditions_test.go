package cache

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
)

func TestDefaultAction(t *testing.T) {
	allow := intentions.DefaultAction{Allow: true, Origin: intentions.OriginAgent}
	deny := intentions.DefaultAction{Origin: intentions.OriginACL}
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web", "db"))
		w.fill("web", "db")
		if w.decide("stranger", "web").Allowed() || w.decide("stranger", "db").Allowed() {
			t.Fatal("the default action does not deny")
		}
		w.tell(Update{Default: &allow})
		if !w.decide("stranger", "web").Allowed() || !w.decide("stranger", "db").Allowed() {
			t.Error("not every policy follows the default action")
		}
		if got := strings.Count(w.log.String(), "default action changed to allow"); got != 1 {
			t.Errorf("got %d warnings about allow, want one", got)
		}
		w.tell(Update{Default: &allow})
		w.tell(Update{Default: &deny})
		if w.decide("stranger", "web").Allowed() {
			t.Error("back to deny was not followed")
		}
		if got := strings.Count(w.log.String(), "[WARN]"); got != 1 {
			t.Errorf("got %d warnings, want the one:\n%s", got, w.log)
		}
		if got := w.snapshot("web").Policy.Table.Policy().DefaultOrigin; got != intentions.OriginACL {
			t.Errorf("got origin %q, want %q", got, intentions.OriginACL)
		}
	})
}

func TestConfiguredDefaultActionWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		w.tell(Update{Default: &intentions.DefaultAction{Allow: true, Origin: intentions.OriginAgent}})
		w.stop()
		configured := intentions.DefaultAction{Origin: intentions.OriginConfig}
		again := open(t, store, watching("web"), func(c *Config) { c.Default = &configured })
		again.tell(Update{Default: &intentions.DefaultAction{Allow: true, Origin: intentions.OriginAgent}})
		if again.decide("stranger", "web").Allowed() || again.c.Default() != configured {
			t.Errorf("got default %+v, want the configured one", again.c.Default())
		}
	})
}

func TestNoDecisionBeforeTheDefaultIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.tell(Update{Bundle: bundleOf(t, testDomain, newSigner(t, "root")), Intentions: rowsFor("web", "api allow")})
		if s := w.snapshot("web"); s.Policy != nil || s.Decide(sourceID("api").String(), nil) != (intentions.Decision{}) {
			t.Error("a policy was published without a default action")
		}
	})
}

func TestConditionsAreLoggedOnChange(t *testing.T) {
	s := intentions.NewService("web")
	fails := func(kind string) Update {
		return Update{Conditions: []Condition{{Watch: WatchLeaf, Service: s, Failure: &Failure{Kind: kind, Message: "no: " + kind}}}}
	}
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		lines := func() int { return strings.Count(w.log.String(), "watch ") }
		steps := []struct {
			name   string
			update Update
			pause  time.Duration
			want   int
		}{
			{"begins", fails(FailureUnreachable), 0, 1},
			{"again", fails(FailureUnreachable), time.Second, 1},
			{"another-kind", fails(FailureRefused), time.Second, 2},
			{"still-that", fails(FailureRefused), 59 * time.Minute, 2},
			{"hourly", fails(FailureRefused), 2 * time.Minute, 3},
			{"not-yet-again", fails(FailureRefused), time.Minute, 3},
			{"recovers", Update{Conditions: []Condition{{Watch: WatchLeaf, Service: s}}}, time.Minute, 4},
			{"is-well", Update{Conditions: []Condition{{Watch: WatchLeaf, Service: s}}}, time.Minute, 4},
		}
		began := time.Now()
		for _, step := range steps {
			time.Sleep(step.pause)
			w.tell(step.update)
			if got := lines(); got != step.want {
				t.Errorf("%s: got %d lines, want %d:\n%s", step.name, got, step.want, w.log)
			}
			if f := w.c.conditions.get(WatchLeaf, s); f != nil && !f.Since.Equal(began) {
				t.Errorf("%s: got a failure since %v, want %v", step.name, f.Since, began)
			}
		}
	})
}

func TestCauseOrder(t *testing.T) {
	web, db := intentions.NewService("web"), intentions.NewService("db")
	order := []conditionKey{
		{WatchLeaf, web}, {WatchIntentions, web}, {WatchToken, web},
		{watchTrustDomain, intentions.Service{}}, {WatchBundle, intentions.Service{}},
		{WatchIntentions, intentions.Service{}}, {WatchToken, intentions.Service{}},
	}
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web", "db"))
		w.tell(Update{Conditions: []Condition{{Watch: WatchLeaf, Service: db, Failure: &Failure{Message: "of db"}}}})
		if got := w.c.Cause(web); got != nil {
			t.Errorf("got %v for web from what fails for db", got)
		}
		for i := len(order) - 1; i >= 0; i-- {
			key := order[i]
			w.tell(Update{Conditions: []Condition{{Watch: key.watch, Service: key.service, Failure: &Failure{Message: key.watch}}}})
			if got := w.c.Cause(web); got == nil || got.Message != key.watch {
				t.Errorf("got cause %v, want %s", got, key.watch)
			}
		}
		if got := w.c.ServiceStatus(web); got.Ready || got.Cause == nil {
			t.Errorf("got status %+v, want one that says why web is not ready", got)
		}
		if got := w.c.Status(); len(got.Conditions) != len(order)+1 || got.Conditions[0].Watch != WatchBundle {
			t.Errorf("got conditions %+v, want all in order", got.Conditions)
		}
	})
}

func TestConditionsOfServicesThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory())
		w.tell(Update{Local: []LocalService{{Service: intentions.NewService("web")}}})
		w.tell(Update{Conditions: []Condition{{Watch: WatchLeaf, Service: intentions.NewService("web"), Failure: &Failure{Message: "no"}}}})
		w.tell(Update{Local: []LocalService{}})
		if got := w.c.Status().Conditions; len(got) != 0 {
			t.Errorf("got %+v, want none", got)
		}
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web", "api"))
		if got := w.c.Status(); got.Bundle != nil || got.BundleAge != never || got.DefaultKnown || len(got.Services) != 2 {
			t.Errorf("got %+v at the start", got)
		}
		w.fill("web")
		time.Sleep(time.Minute)
		got := w.c.Status()
		if got.Datacenter != "dc1" || got.Node != "n1" || got.BundleAge != time.Minute || got.Store != StoreOK || !got.DefaultKnown {
			t.Errorf("got %+v", got)
		}
		if api, web := got.Services[0], got.Services[1]; api.Ready || !web.Ready || !web.Fresh || web.Age != time.Minute {
			t.Errorf("got services %+v, want api not ready and web ready", got.Services)
		}
		if got := w.c.ServiceStatus(intentions.NewService("nobody")); got.Snapshot != nil {
			t.Errorf("got %+v for a service that is not watched", got)
		}
	})
}
