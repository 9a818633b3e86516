package cache

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/connectd/connectd/intentions"
)

func TestDecideAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		web, source := intentions.NewService("web"), sourceID("api").String()
		allowed := true
		got := testing.AllocsPerRun(1000, func() {
			s, _ := w.c.Snapshot(web)
			allowed = allowed && s.Decide(source, nil).Allowed()
		})
		if got != 0 || !allowed {
			t.Errorf("got %v allocations and allowed %v, want 0 and true", got, allowed)
		}
	})
}

// TestDecideTakesNoLock decides while every lock of the cache is held.
func TestDecideTakesNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		for _, lock := range []*sync.Mutex{&w.c.conditions.mu, &w.c.discovery.mu, &w.c.persister.mu} {
			lock.Lock()
			defer lock.Unlock()
		}
		decided := make(chan bool, 1)
		go func() { decided <- w.decide("api", "web").Allowed() }()
		synctest.Wait()
		select {
		case got := <-decided:
			if !got {
				t.Error("denied")
			}
		default:
			t.Error("a decision waits for a lock")
			<-decided
		}
	})
}

func TestDecideOfNothing(t *testing.T) {
	var none *Snapshot
	for _, s := range []*Snapshot{none, {}, {Policy: &PolicyPart{}}, {Bundle: &BundlePart{}}} {
		if got := s.Decide(sourceID("api").String(), nil); got != (intentions.Decision{}) {
			t.Errorf("got %+v of %+v, want the zero decision", got, s)
		}
	}
}

func TestBodiesAreEncodedOnce(t *testing.T) {
	var b Bodies
	var readers sync.WaitGroup
	calls := 0
	encode := func() []byte { calls++; return []byte("body") }
	for range 10 {
		readers.Go(func() {
			if got := string(b.Get(1, encode)); got != "body" {
				t.Errorf("got %q", got)
			}
		})
	}
	readers.Wait()
	if calls != 1 {
		t.Errorf("encoded %d times, want once", calls)
	}
	if got := string(b.Get(0, func() []byte { return []byte("other") })); got != "other" {
		t.Errorf("got %q in another slot, want its own body", got)
	}
}

func TestPolicyOfADestinationThatIsNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		other := intentions.NewService("other")
		if _, err := w.c.PolicyOf(other, nil); err == nil {
			t.Error("got a policy before the trust bundle is known")
		}
		w.fill()
		part, err := w.c.PolicyOf(other, rowsFor("other", "api allow")[other])
		if err != nil {
			t.Fatal(err)
		}
		if !part.Table.Decide(sourceID("api")).Allowed() || part.Table.Decide(sourceID("web")).Allowed() || part.Index != w.c.Index() {
			t.Errorf("got %+v", part)
		}
		if _, err := w.c.PolicyOf(other, []byte(`[{}]`)); err == nil {
			t.Error("bad rows made a policy")
		}
	})
}
