package consul

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// TestFirstLeavesArePaced wants many new services at once.
func TestFirstLeavesArePaced(t *testing.T) {
	for name, perSecond := range map[string]float64{"default": 0, "configured": 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.leafLife = 72 * time.Hour
				list := names("web", 100)
				began := time.Now()
				to := f.runLeaves(f.source(Config{SignaturesPerSecond: perSecond}), leavesOf(list...)...)
				pass(4 * time.Second)
				want := perSecond
				if want == 0 {
					want = 5
				}
				asked := len(f.requests(leafPath, began))
				if low, high := int(3*want), int(5*want)+1; asked < low || asked > high {
					t.Errorf("in four seconds %d leaves were asked for, want %d to %d", asked, low, high)
				}
				pass(20 * time.Second)
				for _, name := range list {
					if to.leaf(name) == nil {
						t.Fatalf("%s has no leaf", name)
					}
				}
				pass(6 * time.Hour)
				if n := len(f.requests(leafPath, began)); n != len(list) {
					t.Errorf("%d requests for %d leaves", n, len(list))
				}
			})
		})
	}
}

// TestNewServiceDoesNotWaitForRenewals has many leaves overdue, as after a
// long outage, when a new service comes.
func TestNewServiceDoesNotWaitForRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.source(Config{})
		old := f.have(s, names("old", 600)...)
		f.rotate("two")
		to := f.runLeaves(s, old...)
		pass(5 * time.Second)
		to.want(append(old, leavesOf("new")...)...)
		pass(time.Second)
		if to.leaf("new") == nil {
			t.Error("the new service waits")
		}
	})
}

// have makes wants with good leaves of the present authority.
func (f *fake) have(s *Source, list ...string) []cache.Want {
	s.bundle.Store(must(parseRoots([]byte(f.roots)))(f.t))
	defer s.bundle.Store(nil)
	wants := leavesOf(list...)
	for i := range wants {
		_, body := f.leafOf(wants[i].Service.Name)
		wants[i].Have = must(s.parseLeaf(wants[i].Service, answer{body: []byte(body), index: 1}, time.Now()))(f.t)
	}
	return wants
}

// TestGoodLeafIsNeverAskedFor restarts with leaves in hand, over both kinds of
// connection and with a wanted set that changes.
func TestGoodLeafIsNeverAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.leafLife = 72 * time.Hour
		s := f.source(Config{})
		wants := f.have(s, names("web", 50)...)
		began := time.Now()
		to := f.runLeaves(s, wants...)
		pass(time.Hour)
		to.want(wants[:30]...)
		pass(time.Hour)
		to.want(wants...)
		pass(20 * time.Hour)
		if n := len(f.requests(leafPath, began)); n != 0 {
			t.Errorf("%d requests for good leaves", n)
		}
	})
}

// TestRenewalWindow follows renewals on plain HTTP: one read for each leaf,
// between 90 and 95 % of its life.
func TestRenewalWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.leafLife = 24 * time.Hour
		s := f.source(Config{})
		wants := f.have(s, names("web", 200)...)
		begin := wants[0].Have.NotBefore
		to := f.runLeaves(s, wants...)
		pass(23*time.Hour + 30*time.Minute)
		list := f.requests(leafPath, time.Time{})
		if len(list) != len(wants) {
			t.Errorf("%d requests for %d renewals", len(list), len(wants))
		}
		var parts []float64
		for _, x := range list {
			parts = append(parts, float64(x.at.Sub(begin))/float64(f.leafLife))
		}
		slices.Sort(parts)
		if parts[0] < renewFrom || parts[len(parts)-1] > renewTo+0.001 {
			t.Errorf("renewals from %.4f to %.4f of the life", parts[0], parts[len(parts)-1])
		}
		if middle := parts[len(parts)/2]; middle < 0.915 || middle > 0.935 {
			t.Errorf("the middle renewal is at %.4f of the life", middle)
		}
		for _, w := range wants {
			if l := to.leaf(w.Service.Name); l == nil || l.NotAfter.Equal(w.Have.NotAfter) {
				t.Fatalf("%s was not renewed", w.Service)
			}
		}
	})
}

// TestRotationIsSpread rotates the root under leaves of different age.
func TestRotationIsSpread(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		window time.Duration
	}{{"few", 30, minSpread}, {"many", 700, 35 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				s := f.source(Config{})
				var wants []cache.Want
				for i, name := range names("web", c.n) {
					// The later in the alphabet, the sooner the end.
					f.leafLife = 100*time.Hour - time.Duration(i)*time.Minute
					wants = append(wants, f.have(s, name)...)
				}
				f.leafLife = 72 * time.Hour
				to := f.runLeaves(s, wants...)
				pass(10 * time.Second)
				began := time.Now()
				f.rotate("two")
				pass(c.window * 9 / 10)
				if n := len(f.requests(leafPath, began)); n > c.n*19/20 || n < c.n*8/10 {
					t.Errorf("%d of %d are asked for after nine tenths of the window", n, c.n)
				}
				pass(c.window/10 + 5*time.Second)
				list := f.requests(leafPath, began)
				if len(list) != c.n {
					t.Errorf("%d requests for %d leaves", len(list), c.n)
				}
				checkOrder(t, list, c.n)
				for _, w := range wants {
					if l := to.leaf(w.Service.Name); l == nil || !l.SignedBy(to.bundle().Active()) {
						t.Fatalf("%s has no leaf of the new root", w.Service)
					}
				}
			})
		})
	}
}

// checkOrder wants the names from last to first, but for neighbours.
func checkOrder(t *testing.T, list []seen, n int) {
	t.Helper()
	all := names("web", n)
	for i, x := range list {
		place := n - 1 - slices.Index(all, strings.TrimPrefix(x.path, leafPath))
		if place < i-3 || place > i+3 {
			t.Errorf("request %d is for the leaf with place %d by remaining life", i, place)
			return
		}
	}
}

// TestLeafOfOldRootIsRefused lets the agent's cache be frozen: it goes on
// answering with leaves of the old root, even new ones.
func TestLeafOfOldRootIsRefused(t *testing.T) {
	for name, fresh := range map[string]bool{"same_leaf": false, "new_leaves": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.leafLife = 72 * time.Hour
				s := f.source(Config{})
				wants := f.have(s, "web")
				to := f.runLeaves(s, wants...)
				pass(time.Second)
				old, kept := f.ca, f.leaves["web"]
				f.answer(leafPath, func(w http.ResponseWriter, r *http.Request) {
					body := kept
					if fresh {
						body = old.leaf("web", 999, lasting(72*time.Hour))
					}
					say(w, 200, "999", body)
				})
				f.rotate("two")
				pass(15 * time.Minute)
				began := time.Now()
				pass(30 * time.Minute)
				if to.count(hasLeaf) != 0 {
					t.Error("a leaf of the old root was taken")
				}
				if n := len(f.requests(leafPath, began)); n < 15 || n > 70 {
					t.Errorf("asked %d times in half an hour", n)
				}
				if to.kind(cache.WatchLeaf, "web") != cache.FailureInvalid {
					t.Error("nothing tells that the agent's cache is frozen")
				}
				f.heal()
				pass(2 * time.Minute)
				if l := to.leaf("web"); l == nil || !l.SignedBy(to.bundle().Active()) || to.failure(cache.WatchLeaf, "web") != nil {
					t.Errorf("got leaf %v, failure %v after the recovery", l, to.failure(cache.WatchLeaf, "web"))
				}
			})
		})
	}
}

// TestFrozenAgentAtFirstFetch has no leaf at all: then one of an old root is
// better than none, and the search goes on.
func TestFrozenAgentAtFirstFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		old := f.ca
		f.rotate("two")
		f.answer(leafPath, func(w http.ResponseWriter, r *http.Request) { say(w, 200, "7", old.leaf("web", 7)) })
		to := f.runLeaves(f.source(Config{}), leavesOf("web")...)
		pass(time.Second)
		if l := to.leaf("web"); l == nil || l.SignedBy(to.bundle().Active()) {
			t.Fatalf("got %v", l)
		}
		f.heal()
		pass(2 * time.Minute)
		if !to.leaf("web").SignedBy(to.bundle().Active()) {
			t.Error("the leaf of the old root stays")
		}
	})
}

// TestDyingLeafTakesWhatComes is at the end of a leaf's life with an agent
// that only has leaves of the old root.
func TestDyingLeafTakesWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.leafLife = 10 * time.Hour
		s := f.source(Config{})
		wants := f.have(s, "web")
		old := f.ca
		to := f.runLeaves(s, wants...)
		pass(time.Second)
		f.rotate("two")
		f.answer(leafPath, func(w http.ResponseWriter, r *http.Request) {
			say(w, 200, "7", old.leaf("web", 7, lasting(10*time.Hour)))
		})
		pass(9 * time.Hour)
		if to.count(hasLeaf) != 0 {
			t.Error("a leaf of the old root was taken while ours was good")
		}
		pass(time.Hour)
		if l := to.leaf("web"); l == nil || l.Expired(time.Now()) {
			t.Error("the leaf was allowed to end")
		}
	})
}

// TestOlderLeafIsNoRenewal answers a renewal with an earlier leaf of the same
// root.
func TestOlderLeafIsNoRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.leafLife = 10 * time.Hour
		earlier := f.ca.leaf("web", 7, lasting(10*time.Hour))
		pass(time.Hour)
		s := f.source(Config{})
		wants := f.have(s, "web")
		to := f.runLeaves(s, wants...)
		f.answer(leafPath, func(w http.ResponseWriter, r *http.Request) { say(w, 200, "7", earlier) })
		pass(8*time.Hour + 58*time.Minute)
		if n := len(f.requests(leafPath, time.Time{})); n != 0 {
			t.Errorf("asked %d times before the renewal", n)
		}
		pass(40 * time.Minute)
		if to.count(hasLeaf) != 0 {
			t.Error("an older leaf replaced the one in hand")
		}
	})
}

// TestLateWantOfOldRoot brings a leaf of the old root long after the rotation.
func TestLateWantOfOldRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.leafLife = 72 * time.Hour
		s := f.source(Config{})
		wants := f.have(s, "web")
		f.rotate("two")
		to := f.runLeaves(s)
		pass(time.Hour)
		to.want(wants...)
		pass(minSpread + time.Second)
		if l := to.leaf("web"); l == nil || !l.SignedBy(to.bundle().Active()) {
			t.Error("the leaf of the old root stays")
		}
	})
}

// TestPolicyOnlyNeverSigns wants no leaves.
func TestPolicyOnlyNeverSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.runLeaves(f.source(Config{}), policies("web", "db")...)
		pass(time.Hour)
		if n := len(f.requests(leafPath, time.Time{})); n != 0 {
			t.Errorf("%d requests for leaves", n)
		}
	})
}

// TestForeignTrustDomain turns the agent into one of another cluster. Whether
// to believe it is the cache's business; the leaf in hand stays good.
func TestForeignTrustDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.leafLife = 72 * time.Hour
		to := f.runLeaves(f.source(Config{}), leavesOf("web")...)
		pass(time.Second)
		good := to.leaf("web")
		foreign := newAuthority(t, "foreign")
		foreign.domain = "99999999-2222-3333-4444-555555555555.consul"
		f.change(func() {
			f.roots, f.rootsIndex, f.ca = rootsBody(foreign), f.rootsIndex+1, foreign
		})
		pass(time.Hour)
		if got := to.leaf("web"); got != good {
			t.Errorf("the leaf was replaced by %v", got)
		}
		if b := to.bundle(); b.TrustDomain != foreign.domain {
			t.Error("the cache was not told, so nobody raises an alarm")
		}
	})
}

// TestRenewalsOverTLS follows the held queries of HTTP/2: at most heldLeaves,
// only in the renewal window, and none of the others is forgotten.
func TestRenewalsOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.leafLife = 2 * time.Hour
		s := f.tlsSource()
		wants := f.have(s, names("web", heldLeaves+40)...)
		to := f.runLeaves(s, wants...)
		pass(70 * time.Minute)
		if n := len(f.requests(leafPath, time.Time{})); n != 0 {
			t.Errorf("%d requests for leaves before the window", n)
		}
		pass(4 * time.Minute)
		const others = 1 // The roots.
		if holding, conns := f.open(); holding != heldLeaves+others || conns != 1 {
			t.Errorf("%d queries on %d connections, want %d on one", holding, conns, heldLeaves+others)
		}
		pass(10 * time.Second)
		to.want(append(wants, leavesOf("zz-new")...)...)
		pass(time.Second)
		if to.leaf("zz-new") == nil {
			t.Error("a new service waits behind the held queries")
		}
		pass(40 * time.Minute)
		for _, w := range wants {
			if l := to.leaf(w.Service.Name); l == nil || l.Expired(time.Now().Add(time.Hour)) {
				t.Fatalf("%s was not renewed", w.Service)
			}
		}
		if n := len(f.requests(leafPath, time.Time{})); n > 20*len(wants) {
			t.Errorf("%d requests", n)
		}
	})
}

// TestLeafEndsWithItsWant stops asking once a service is not wanted.
func TestLeafEndsWithItsWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer(leafPath, func(w http.ResponseWriter, r *http.Request) { say(w, 500, "", "no") })
		to := f.runLeaves(f.source(Config{}), leavesOf("web", "db")...)
		pass(10 * time.Second)
		to.want(leavesOf("db")...)
		pass(time.Second)
		began := time.Now()
		pass(10 * time.Minute)
		if n := len(f.requests(leafPath+"web", began)); n != 0 {
			t.Errorf("asked %d times for the leaf of a service that is not wanted", n)
		}
		if to.kind(cache.WatchLeaf, "db") == "" || intentions.NewService("db") != to.wants[0].Service {
			t.Error("the other service is forgotten")
		}
	})
}
