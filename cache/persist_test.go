package cache

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
)

func TestPublishWaitsForCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		release := store.stall()
		before := w.snapshot("web")
		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		time.Sleep(publishAfter - time.Millisecond)
		if got := w.snapshot("web"); got != before {
			t.Error("a change was visible before its commit returned")
		}
		release()
		synctest.Wait()
		if w.decide("api", "web").Allowed() {
			t.Error("the change is not visible after its commit returned")
		}
		if got := w.c.StoreState(); got != StoreOK {
			t.Errorf("got store %q, want %q", got, StoreOK)
		}
	})
}

func TestSlowDiskHoldsNoDenyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		release := store.stall()
		began := time.Now()
		_, changed := w.c.Snapshot(intentions.NewService("web"))
		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		<-changed
		if got := time.Since(began); got != publishAfter {
			t.Errorf("published after %v, want %v", got, publishAfter)
		}
		if w.decide("api", "web").Allowed() {
			t.Error("the deny is not in force")
		}
		if got := w.c.StoreState(); got != StoreBehind {
			t.Errorf("got store %q, want %q", got, StoreBehind)
		}
		release()
		synctest.Wait()
		if got := w.c.StoreState(); got != StoreOK {
			t.Errorf("got store %q after the commit, want %q", got, StoreOK)
		}
	})
}

func TestSettlingHoldsNoPublicationBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		release := store.stallSettling()
		began := time.Now()
		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		if w.decide("api", "web").Allowed() || time.Since(began) != 0 {
			t.Error("a committed change waited to be settled")
		}
		if got := w.c.StoreState(); got != StoreBehind {
			t.Errorf("got store %q before it was settled, want %q", got, StoreBehind)
		}
		release()
		synctest.Wait()
		if got := w.c.StoreState(); got != StoreOK {
			t.Errorf("got store %q once it was settled, want %q", got, StoreOK)
		}
	})
}

// TestStoreThatRefuses shows a store that cannot be written before anything
// has to be.
func TestStoreThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		store.breaks(errors.New("the key is wrong"))
		w := open(t, store, watching("web"))
		synctest.Wait()
		if got := w.c.StoreState(); got != StoreDegraded {
			t.Errorf("got store %q, want %q", got, StoreDegraded)
		}
		f := w.c.conditions.get(WatchStore, intentions.Service{})
		if f == nil || !strings.Contains(f.Message, "the key is wrong") {
			t.Errorf("got condition %v, want the cause", f)
		}
	})
}

func TestBrokenDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web", "db"))
		w.fill("web", "db")
		store.breaks(errors.New("no space left on device"))
		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		time.Sleep(publishAfter)
		synctest.Wait()
		if got := w.c.StoreState(); got != StoreDegraded {
			t.Fatalf("got store %q, want %q", got, StoreDegraded)
		}
		if w.decide("api", "web").Allowed() {
			t.Error("serving does not go on from memory")
		}
		if f := w.c.conditions.get(WatchStore, intentions.Service{}); f == nil || f.Kind != FailureStore {
			t.Errorf("got condition %v, want one of the store", f)
		}

		began := time.Now()
		w.tell(Update{Intentions: rowsFor("db", "api deny")})
		if w.decide("api", "db").Allowed() || time.Since(began) != 0 {
			t.Error("a degraded store delayed a publication")
		}
		w.tell(Update{Intentions: rowsFor("web", "* deny")})

		store.breaks(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := w.c.StoreState(); got != StoreOK {
			t.Errorf("got store %q after recovery, want %q", got, StoreOK)
		}
		w.stop()

		again := open(t, store, watching("web", "db"))
		for _, name := range []string{"web", "db"} {
			if again.decide("api", name).Allowed() {
				t.Errorf("%s: what a failed commit held is lost", name)
			}
			if got, want := string(again.snapshot(name).Policy.Raw), string(w.snapshot(name).Policy.Raw); got != want {
				t.Errorf("%s: got rows %s, want the newest %s", name, got, want)
			}
		}
	})
}

func TestBrokenDiskIsRetriedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		store.breaks(errors.New("input/output error"))
		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		before := store.tries()
		for i := range 600 {
			rule := "api deny"
			if i%2 == 0 {
				rule = "other deny"
			}
			w.tell(Update{Intentions: rowsFor("web", rule)})
			time.Sleep(time.Second)
		}
		got := store.tries() - before
		if got < 10 || got > 60 {
			t.Errorf("a broken disk was tried %d times in 10 minutes of changes, want 10 to 60", got)
		}
	})
}

func TestFailedBatchMergesNewestWins(t *testing.T) {
	older := records{"a": {"x": []byte("1"), "y": []byte("1")}, "b": {"z": []byte("1")}}
	newer := records{"a": {"x": []byte("2"), "y": nil}}
	got := merge(older, newer)
	if string(got["a"]["x"]) != "2" || string(got["b"]["z"]) != "1" {
		t.Errorf("got %v, want the newer x and the older z", got)
	}
	if y, there := got["a"]["y"]; !there || y != nil {
		t.Error("a newer deletion did not win")
	}
	if got := merge(nil, newer); string(got["a"]["x"]) != "2" {
		t.Errorf("got %v from nothing, want the newer", got)
	}
}

// TestNewerThanTheFailingCommit changes a policy again while the commit of the
// first change is on its way to failure.
func TestNewerThanTheFailingCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web", "db"))
		w.fill("web", "db")
		release := store.stall()
		w.tell(Update{Intentions: rowsFor("web", "first deny")})
		w.tell(Update{Intentions: rowsFor("db", "only deny")})
		time.Sleep(2 * publishAfter)
		w.tell(Update{Intentions: rowsFor("web", "second deny")})
		store.breaks(errors.New("no space left on device"))
		release()
		time.Sleep(publishAfter)
		synctest.Wait()
		store.breaks(nil)
		w.stop()
		again := open(t, store, watching("web", "db"))
		for name, want := range map[string]string{"web": "second", "db": "only"} {
			if got := string(again.snapshot(name).Policy.Raw); !strings.Contains(got, want) {
				t.Errorf("%s: got %s, want the rule for %s", name, got, want)
			}
		}
	})
}

func TestShutdownCommitsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		store.breaks(errors.New("busy"))
		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		time.Sleep(publishAfter)
		synctest.Wait()
		store.breaks(nil)
		w.stop()
		again := open(t, store, watching("web"))
		if again.decide("api", "web").Allowed() {
			t.Error("what waited was not committed at the end")
		}
	})
}

func TestNoStoreAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, nil, watching("web"), func(c *Config) { c.Store = nil })
		w.fill("web")
		if !w.decide("api", "web").Allowed() || w.c.StoreState() != StoreOK {
			t.Error("a cache without a store does not serve from memory")
		}
	})
}

func TestAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		w.stop()
		ctx := context.Background()
		if err := w.c.Ask(ctx, 1, intentions.NewService("new"), true); !errors.Is(err, ErrStopped) {
			t.Errorf("ask: got %v, want %v", err, ErrStopped)
		}
		if _, err := w.c.Discover(ctx, Lookup{Service: intentions.NewService("db")}); !errors.Is(err, ErrStopped) {
			t.Errorf("discover: got %v, want %v", err, ErrStopped)
		}
		if !w.decide("api", "web").Allowed() {
			t.Error("snapshots cannot be read any more")
		}
	})
}
