package cache

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
)

func TestWakes(t *testing.T) {
	tests := []struct {
		name     string
		update   func(w *world) Update
		web, db  bool
		bundle   bool
		watchers bool
	}{
		{"intentions-of-db", func(w *world) Update { return Update{Intentions: rowsFor("db", "api deny")} }, false, true, false, false},
		{"leaf-of-web", func(w *world) Update { return Update{Leaf: w.root.leaf(w.t, "web", time.Hour)} }, true, false, false, false},
		{"bundle", func(w *world) Update {
			return Update{Bundle: bundleOf(w.t, testDomain, w.root, newSigner(w.t, "two"))}
		}, true, true, true, false},
		{"default-action", func(w *world) Update {
			return Update{Default: &intentions.DefaultAction{Allow: true, Origin: intentions.OriginAgent}}
		}, true, true, false, false},
		{"local-service", func(w *world) Update {
			return Update{Local: []LocalService{{Service: intentions.NewService("new")}}}
		}, false, false, false, true},
		{"nothing-new", func(w *world) Update { return Update{Intentions: rowsFor("db", "api allow")} }, false, false, false, false},
		{"intentions-of-a-stranger", func(w *world) Update { return Update{Intentions: rowsFor("other", "api allow")} }, false, false, false, false},
		{"condition", func(w *world) Update {
			return Update{Conditions: []Condition{{Watch: WatchBundle, Failure: &Failure{Kind: FailureUnreachable}}}}
		}, false, false, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, newMemory(), watching("web", "db"))
				w.fill("web", "db")
				_, web := w.c.Snapshot(intentions.NewService("web"))
				_, db := w.c.Snapshot(intentions.NewService("db"))
				_, bundle := w.c.Bundle()
				_, wanted := w.c.Wanted()
				w.tell(tt.update(w))
				for _, c := range []struct {
					who  string
					got  <-chan struct{}
					want bool
				}{{"web", web, tt.web}, {"db", db, tt.db}, {"bundle", bundle, tt.bundle}, {"source", wanted, tt.watchers}} {
					if got := isClosed(c.got); got != c.want {
						t.Errorf("%s woken: got %v, want %v", c.who, got, c.want)
					}
				}
			})
		})
	}
}

// TestWaiterSeesTheChange reads again after each wake, as callers do: a change
// between reading and waiting is never missed.
func TestWaiterSeesTheChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		seen := make(chan uint64)
		go func() {
			defer close(seen)
			for {
				s, changed := w.c.Snapshot(intentions.NewService("web"))
				seen <- s.Index
				select {
				case <-changed:
				case <-w.ctx.Done():
					return
				}
			}
		}()
		last := <-seen
		for i := range 20 {
			w.tell(Update{Intentions: rowsFor("web", []string{"api deny", "api allow"}[i%2])})
			if got := <-seen; got != last+1 {
				t.Fatalf("got index %d, want %d", got, last+1)
			}
			last++
		}
		w.stop()
		for range seen {
			t.Error("woken without a change")
		}
	})
}

func TestForeignTrustDomain(t *testing.T) {
	const other = "99999999-2222-3333-4444-555555555555.consul"
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		before := w.snapshot("web")
		w.tell(Update{
			Bundle:     bundleOf(t, other, newSigner(t, "stranger")),
			Intentions: rowsFor("web", "evil allow"), Default: &intentions.DefaultAction{Allow: true},
		})
		w.tell(Update{Intentions: rowsFor("web", "evil allow"), Default: &intentions.DefaultAction{Allow: true}})
		if w.snapshot("web") != before || w.decide("evil", "web").Allowed() {
			t.Error("what another cluster says was taken")
		}
		cause := w.c.Cause(before.Service)
		if cause == nil || cause.Kind != FailureInvalid {
			t.Fatalf("got cause %v, want one that says what to do", cause)
		}
		for _, word := range []string{other, testDomain, "trust_domain", "store"} {
			if !strings.Contains(cause.Message, word) {
				t.Errorf("the cause does not mention %q: %s", word, cause.Message)
			}
		}
		w.tell(Update{Bundle: bundleOf(t, testDomain, w.root)})
		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		if w.c.Cause(before.Service) != nil || w.decide("api", "web").Allowed() {
			t.Error("the cluster's own answers are not taken again")
		}
		w.stop()

		again := open(t, store, watching("web"), func(c *Config) { c.TrustDomain = "99999999-2222-3333-4444-555555555555.CONSUL" })
		if s := again.snapshot("web"); s.Bundle != nil || s.Leaf != nil || s.Policy != nil {
			t.Error("material of another trust domain than the configured one was restored")
		}
		again.fill()
		if again.snapshot("web").Bundle != nil {
			t.Error("a bundle of another trust domain than the configured one was taken")
		}
		again.tell(Update{Bundle: bundleOf(t, other, newSigner(t, "rebuilt"))})
		if s := again.snapshot("web"); s.Bundle == nil || s.Policy != nil {
			t.Error("want the configured trust domain's bundle, and none of the old intentions")
		}
	})
}
