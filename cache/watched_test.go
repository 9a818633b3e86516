package cache

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
)

// asks makes sure that one user may have a service watched.
func (w *world) asks(uid uint32, name string, leaf bool) error {
	w.t.Helper()
	err := w.c.Ask(w.ctx, uid, intentions.NewService(name), leaf)
	synctest.Wait()
	return err
}

// wants returns what the source is told of a service.
func (w *world) wants(name string) (Want, bool) {
	list, _ := w.c.Wanted()
	for _, x := range list {
		if x.Service.Name == name {
			return x, true
		}
	}
	return Want{}, false
}

func TestAskedForThreeDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory())
		if err := w.asks(1, "web", true); err != nil {
			t.Fatal(err)
		}
		w.fill("web")
		_, changed := w.c.Snapshot(intentions.NewService("web"))
		time.Sleep(askedFor - time.Minute)
		if _, there := w.wants("web"); !there {
			t.Fatal("web was dropped too early")
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if _, there := w.wants("web"); there || w.snapshot("web") != nil {
			t.Error("web is still watched 72 hours after it was asked for")
		}
		if !isClosed(changed) {
			t.Error("those who waited were not woken")
		}
		for _, bucket := range []string{bucketLeaf, bucketPolicy, bucketAsked} {
			if w.store.record(bucket, "default/default/web") != nil {
				t.Errorf("the record in %s was not deleted", bucket)
			}
		}
	})
}

func TestAskingKeepsTheLeafAlive(t *testing.T) {
	tests := []struct {
		name string
		// leafEvery and policyEvery are how often callers ask.
		leafEvery, policyEvery time.Duration
		leaf                   bool
	}{
		{"leaf-alone", 10 * time.Hour, 0, true},
		{"policy-alone", 0, 10 * time.Hour, false},
		{"policy-just-before", 10 * time.Hour, 61 * time.Minute, true},
		{"leaf-more-often", 7 * time.Minute, 2 * time.Hour, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, newMemory())
				if err := w.asks(1, "web", true); err != nil {
					t.Fatal(err)
				}
				w.fill("web")
				ask := func(every time.Duration, leaf bool) {
					for every > 0 && w.ctx.Err() == nil {
						time.Sleep(every)
						_ = w.c.Ask(w.ctx, 1, intentions.NewService("web"), leaf)
					}
				}
				var asking sync.WaitGroup
				asking.Go(func() { ask(tt.policyEvery, false) })
				asking.Go(func() { ask(tt.leafEvery, true) })
				time.Sleep(100 * time.Hour)
				synctest.Wait()
				x, there := w.wants("web")
				if !there || x.Leaf != tt.leaf {
					t.Errorf("got watched %v with leaf %v, want leaf %v", there, x.Leaf, tt.leaf)
				}
				if got := w.snapshot("web").WantsLeaf; got != tt.leaf {
					t.Errorf("got a snapshot that wants a leaf %v, want %v", got, tt.leaf)
				}
				if got := w.store.record(bucketLeaf, "default/default/web") != nil; got != tt.leaf {
					t.Errorf("got a key record %v, want %v", got, tt.leaf)
				}
				w.stop()
				asking.Wait()
			})
		})
	}
}

func TestLeafThatNeverCameIsWantedNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory())
		if err := w.asks(1, "web", true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Hour)
		if err := w.asks(1, "web", false); err != nil {
			t.Fatal(err)
		}
		_, woken := w.c.Wanted()
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if x, there := w.wants("web"); !there || x.Leaf || !isClosed(woken) || w.snapshot("web").WantsLeaf {
			t.Errorf("got %+v, want the policy alone, and the source told", x)
		}
	})
}

func TestPolicyOnlyUpgrades(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory())
		w.fill()
		if err := w.asks(1, "web", false); err != nil {
			t.Fatal(err)
		}
		if x, _ := w.wants("web"); x.Leaf {
			t.Error("a leaf is wanted for a policy")
		}
		w.tell(Update{Intentions: rowsFor("web", "api allow"), Leaf: w.root.leaf(t, "web", time.Hour)})
		if s := w.snapshot("web"); !s.Ready() || s.Leaf != nil {
			t.Error("want a service that is ready without a leaf")
		}
		_, woken := w.c.Wanted()
		if err := w.asks(1, "web", true); err != nil {
			t.Fatal(err)
		}
		if x, _ := w.wants("web"); !x.Leaf || !isClosed(woken) {
			t.Error("the source is not told to get a leaf")
		}
		if w.snapshot("web").Ready() {
			t.Error("ready without the leaf that is wanted now")
		}
	})
}

func TestTooManyServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if DefaultMaxServices != 2000 {
			t.Errorf("got a default of %d, want 2000", DefaultMaxServices)
		}
		w := open(t, newMemory(), watching("one"), func(c *Config) { c.MaxServices = 3 })
		for _, name := range []string{"two", "three"} {
			if err := w.asks(1, name, false); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.asks(1, "four", false); !errors.Is(err, ErrTooManyServices) {
			t.Errorf("got %v, want %v", err, ErrTooManyServices)
		}
		if err := w.asks(1, "three", true); err != nil {
			t.Errorf("one that is watched: got %v", err)
		}
		w.tell(Update{Local: []LocalService{{Service: intentions.NewService("local")}}})
		if _, there := w.wants("local"); there {
			t.Error("more services are watched than the limit")
		}
		time.Sleep(askedFor + 2*time.Minute)
		if err := w.asks(1, "four", false); err != nil {
			t.Errorf("after others lapsed: got %v", err)
		}
	})
}

func TestTooManyNewNames(t *testing.T) {
	tests := []struct {
		name  string
		leaf  bool
		limit int
		every time.Duration
	}{{"with-leaf", true, 10, 6 * time.Second}, {"policy-only", false, 100, 600 * time.Millisecond}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, newMemory())
				for i := range tt.limit {
					if err := w.asks(1, fmt.Sprint("s", i), tt.leaf); err != nil {
						t.Fatalf("name %d: %v", i, err)
					}
				}
				if err := w.asks(1, "more", tt.leaf); !errors.Is(err, ErrTooManyNewNames) {
					t.Errorf("got %v, want %v", err, ErrTooManyNewNames)
				}
				if err := w.asks(1, "s0", tt.leaf); err != nil {
					t.Errorf("a name that is known: got %v", err)
				}
				if err := w.asks(2, "more", tt.leaf); err != nil {
					t.Errorf("another user: got %v", err)
				}
				time.Sleep(tt.every)
				if err := w.asks(1, "later", tt.leaf); err != nil {
					t.Errorf("after %v: got %v", tt.every, err)
				}
				if err := w.asks(1, "sooner", tt.leaf); !errors.Is(err, ErrTooManyNewNames) {
					t.Errorf("at once again: got %v, want %v", err, ErrTooManyNewNames)
				}
			})
		})
	}
}

// TestManyCallersOfOneName start together, as the workers of one application
// do: the limit counts names.
func TestManyCallersOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory())
		release := w.store.stall()
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				if err := w.c.Ask(w.ctx, 1, intentions.NewService("web"), true); err != nil {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
		release()
	})
}

func TestLocalServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory())
		w.fill()
		local := []LocalService{{Service: intentions.NewService("web"), ID: "web-1", Port: 1}, {Service: intentions.NewService("web"), ID: "web-2", Port: 2}}
		w.tell(Update{Local: local})
		if x, there := w.wants("web"); !there || !x.Leaf {
			t.Fatal("a local service is not watched")
		}
		w.tell(Update{Leaf: w.root.leaf(t, "web", time.Hour), Intentions: rowsFor("web", "api allow")})
		_, changed := w.c.Snapshot(intentions.NewService("web"))
		w.tell(Update{Local: local[:1]})
		if isClosed(changed) || w.snapshot("web") == nil {
			t.Error("one instance of two that left took the service with it")
		}
		w.tell(Update{})
		if w.snapshot("web") == nil {
			t.Error("an update that says nothing removed the service")
		}
		w.tell(Update{Local: []LocalService{}})
		if !isClosed(changed) || w.snapshot("web") != nil || w.store.record(bucketLeaf, "default/default/web") != nil {
			t.Error("the service left, but its snapshot, waiters or key did not")
		}
	})
}

func TestConfiguredServicesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.tell(Update{Local: []LocalService{{Service: intentions.NewService("web")}}})
		w.tell(Update{Local: []LocalService{}})
		time.Sleep(30 * 24 * time.Hour)
		if x, there := w.wants("web"); !there || !x.Leaf {
			t.Error("a configured service is not watched any more")
		}
	})
}
