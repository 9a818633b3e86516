package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
)

// places is an upstream that knows where services are. Its answers block as
// Consul's do: up to a minute while the index stays.
type places struct {
	mu      sync.Mutex // guards the rest
	body    string
	index   uint64
	fail    error
	hang    bool
	calls   int
	running int
	changed chan struct{}
}

func newPlaces() *places { return &places{body: `[1]`, index: 1, changed: make(chan struct{})} }

func (p *places) set(change func(p *places)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *places) counted() (calls, running int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls, p.running
}

func (p *places) discover(ctx context.Context, _ Lookup, have *Discovered) (*Discovered, error) {
	p.mu.Lock()
	p.calls++
	p.running++
	p.mu.Unlock()
	defer p.set(func(p *places) { p.running-- })
	over := time.After(time.Minute)
	for {
		p.mu.Lock()
		body, index, fail, hang, changed := p.body, p.index, p.fail, p.hang, p.changed
		p.mu.Unlock()
		if fail != nil {
			return nil, fail
		}
		answer := &Discovered{Body: json.RawMessage(body), Instances: []Instance{{ID: body}}, UpstreamIndex: index}
		if !hang && (have == nil || have.UpstreamIndex != index) {
			return answer, nil
		}
		select {
		case <-changed:
		case <-over:
			if hang {
				return nil, errors.New("timed out")
			}
			return answer, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

var dbLookup = Lookup{Service: intentions.NewService("db"), Mesh: true, Passing: true}

func openPlaces(t *testing.T, store *memory) (*world, *places) {
	w, p := open(t, store), newPlaces()
	w.source.discover = p.discover
	return w, p
}

func (w *world) lookUp(l Lookup) DiscoveryView {
	w.t.Helper()
	v, err := w.c.Discover(w.ctx, l)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func TestDiscover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := openPlaces(t, newMemory())
		index := w.c.Index()
		first := w.lookUp(dbLookup)
		if first.Part.Index != index+1 || string(first.Part.Body) != `[1]` || first.Age != 0 {
			t.Errorf("got %+v of age %v, want the answer under index %d", first.Part, first.Age, index+1)
		}
		synctest.Wait()
		for range 100 {
			w.lookUp(dbLookup)
		}
		if calls, _ := p.counted(); calls != 2 {
			t.Errorf("upstream was asked %d times, want once and one that waits", calls)
		}
		p.set(func(p *places) { p.body, p.index = `[2]`, 2 })
		<-first.Changed
		synctest.Wait()
		if got := w.lookUp(dbLookup); string(got.Part.Body) != `[2]` || got.Part.Index != index+2 || w.c.Index() != index+2 {
			t.Errorf("got %s under %d, want the new answer under %d", got.Part.Body, got.Part.Index, index+2)
		}
	})
}

// TestDiscoverUnchangedBody moves upstream's index without changing the answer,
// as any change in Consul's catalogue does.
func TestDiscoverUnchangedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := openPlaces(t, newMemory())
		first := w.lookUp(dbLookup)
		time.Sleep(housekeepingFirst + time.Second)
		synctest.Wait()
		index, tries := w.c.Index(), w.store.tries()
		for range 20 {
			time.Sleep(time.Second)
			p.set(func(p *places) { p.index++ })
			synctest.Wait()
		}
		calls, running := p.counted()
		if calls != 22 || running != 1 {
			t.Errorf("got %d calls and %d that wait, want 22 and 1", calls, running)
		}
		if w.c.Index() != index || w.store.tries() != tries || isClosed(first.Changed) {
			t.Error("an answer that says the same made a publication")
		}
		time.Sleep(3 * time.Second)
		if got := w.lookUp(dbLookup); got.Age != 3*time.Second {
			t.Errorf("got age %v, want 3s since the last answer", got.Age)
		}
	})
}

func TestDiscoverIsReleasedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := openPlaces(t, newMemory())
		w.lookUp(dbLookup)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		calls, running := p.counted()
		if running != 0 || calls > 3 {
			t.Errorf("got %d calls, %d of them waiting, 3 minutes after anyone asked", calls, running)
		}
		p.set(func(p *places) { p.body, p.index = `[9]`, 9 })
		if got := w.lookUp(dbLookup); string(got.Part.Body) != `[9]` || got.Age != 0 {
			t.Errorf("got %s of age %v, want a lookup that is not current to be asked anew", got.Part.Body, got.Age)
		}
	})
}

func TestDiscoverStaysWhileAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := openPlaces(t, newMemory())
		view := w.lookUp(dbLookup)
		for range 20 {
			time.Sleep(20 * time.Second)
			view = w.lookUp(dbLookup)
		}
		p.set(func(p *places) { p.body, p.index = `[2]`, 2 })
		synctest.Wait()
		if !isClosed(view.Changed) {
			t.Error("somebody who kept asking was not woken")
		}
	})
}

func TestDiscoverErrorsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := openPlaces(t, newMemory())
		away := errors.New("no path to datacenter")
		p.set(func(p *places) { p.fail = away })
		if _, err := w.c.Discover(w.ctx, dbLookup); !errors.Is(err, away) {
			t.Fatalf("got %v, want %v", err, away)
		}
		if w.store.record(bucketDiscovery, dbLookup.key()) != nil {
			t.Error("an error was stored")
		}
		p.set(func(p *places) { p.fail = nil })
		began := time.Now()
		got := w.lookUp(dbLookup)
		if string(got.Part.Body) != `[1]` || time.Since(began) > lookupRetry {
			t.Errorf("got %+v after %v, want the answer within %v", got.Part, time.Since(began), lookupRetry)
		}
		p.set(func(p *places) { p.fail = away })
		time.Sleep(10 * time.Second)
		if got := w.lookUp(dbLookup); string(got.Part.Body) != `[1]` || got.Age != 10*time.Second {
			t.Errorf("got %s of age %v, want the last answer of age 10s", got.Part.Body, got.Age)
		}
	})
}

func TestDiscoverAfterRestart(t *testing.T) {
	tests := []struct {
		name  string
		set   func(p *places)
		body  string
		took  time.Duration
		fresh bool
	}{
		{"upstream-answers", func(p *places) { p.body = `[2]` }, `[2]`, 0, true},
		{"upstream-fails", func(p *places) { p.fail = errors.New("away") }, `[1]`, 0, false},
		{"upstream-hangs", func(p *places) { p.hang = true }, `[1]`, lookupPatience, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _ := openPlaces(t, newMemory())
				first := w.lookUp(dbLookup)
				w.stop()
				time.Sleep(time.Hour)
				again, p := openPlaces(t, w.store)
				p.set(tt.set)
				began := time.Now()
				got := again.lookUp(dbLookup)
				if string(got.Part.Body) != tt.body || time.Since(began) != tt.took {
					t.Errorf("got %s after %v, want %s after %v", got.Part.Body, time.Since(began), tt.body, tt.took)
				}
				if (got.Age == 0) != tt.fresh || !tt.fresh && got.Part.Index != first.Part.Index {
					t.Errorf("got age %v under index %d, before %d", got.Age, got.Part.Index, first.Part.Index)
				}
				began = time.Now()
				if again.lookUp(dbLookup); time.Since(began) != 0 {
					t.Errorf("a later ask took %v", time.Since(began))
				}
			})
		})
	}
}

// TestDiscoverCallerGoesAway leaves while the first answer is on its way: the
// lookup is not lost for those who come after.
func TestDiscoverCallerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := openPlaces(t, newMemory())
		gone, cancel := context.WithCancel(w.ctx)
		cancel()
		for i := range 20 {
			l := dbLookup
			l.Datacenter = fmt.Sprint("dc", i)
			_, _ = w.c.Discover(gone, l)
			if got := w.lookUp(l); string(got.Part.Body) != `[1]` {
				t.Errorf("got %+v", got.Part)
			}
		}
	})
}

func TestDiscoverEvictsTheLeastRecentlyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := openPlaces(t, newMemory())
		name := func(i int) Lookup { return Lookup{Service: intentions.NewService(fmt.Sprint("s", i))} }
		for i := range maxLookups {
			w.lookUp(name(i))
			time.Sleep(time.Millisecond)
		}
		w.lookUp(name(0))
		time.Sleep(time.Millisecond)
		w.lookUp(name(maxLookups))
		synctest.Wait()
		if got := len(w.c.discovery.entries); got != maxLookups {
			t.Errorf("got %d lookups, want %d", got, maxLookups)
		}
		if w.store.record(bucketDiscovery, name(1).key()) != nil || w.c.discovery.entries[name(1)] != nil {
			t.Error("the least recently used lookup is still there")
		}
		if w.store.record(bucketDiscovery, name(0).key()) == nil {
			t.Error("a lookup that was used again was evicted")
		}
		// What the watch of an evicted lookup still learns is not stored.
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if got := len(w.store.held[bucketDiscovery]); got != maxLookups {
			t.Errorf("got %d records, want %d", got, maxLookups)
		}
	})
}

func TestDiscoverEvictedWatchStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := openPlaces(t, newMemory())
		w.lookUp(dbLookup)
		w.c.discovery.entries[dbLookup].evict()
		w.tell(Update{}) // Nothing; only to pass the keeper.
		key := dbLookup.key()
		w.store.held[bucketDiscovery] = map[string][]byte{}
		p.set(func(p *places) { p.body, p.index = `[2]`, 2 })
		synctest.Wait()
		if w.store.record(bucketDiscovery, key) != nil {
			t.Error("an evicted lookup came back into the store")
		}
	})
}

func TestDiscoverWithoutADiscoverer(t *testing.T) {
	c, err := New(Config{Source: mute{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Discover(t.Context(), dbLookup); !errors.Is(err, ErrNoDiscovery) {
		t.Errorf("got %v, want %v", err, ErrNoDiscovery)
	}
}

// mute is a source that cannot discover.
type mute struct{}

func (mute) Run(context.Context, Feed) error { return nil }
