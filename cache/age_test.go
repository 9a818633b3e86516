package cache

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/connectd/connectd/intentions"
)

func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		tests := []struct {
			after time.Duration
			want  bool
		}{{0, true}, {149 * time.Second, true}, {150 * time.Second, true}, {150*time.Second + 1, false}, {time.Hour, false}}
		began := time.Now()
		for _, tt := range tests {
			time.Sleep(time.Until(began.Add(tt.after)))
			s := w.snapshot("web")
			if got := s.Fresh(time.Now()); got != tt.want {
				t.Errorf("after %v: got fresh %v, want %v", tt.after, got, tt.want)
			}
			if got := s.Age(time.Now()); got != tt.after {
				t.Errorf("got age %v, want %v", got, tt.after)
			}
		}
		// The worse of bundle and policy counts.
		w.tell(Update{Bundle: bundleOf(t, testDomain, w.root)})
		if w.snapshot("web").Fresh(time.Now()) {
			t.Error("a confirmed bundle alone made the snapshot fresh")
		}
		w.tell(Update{Intentions: rowsFor("web", "api allow")})
		if !w.snapshot("web").Fresh(time.Now()) {
			t.Error("a snapshot of which everything was confirmed is not fresh")
		}
	})
}

func TestMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"), func(c *Config) { c.MaxStale = time.Hour })
		w.fill("web")
		time.Sleep(time.Hour)
		if got := w.decide("api", "web"); !got.Allowed() {
			t.Errorf("got %v at the bound, want allow", got)
		}
		time.Sleep(time.Nanosecond)
		want := intentions.Decision{Reason: intentions.ReasonPolicyStale}
		if got := w.decide("api", "web"); got != want {
			t.Errorf("got %+v past the bound, want %+v", got, want)
		}
		w.tell(Update{Bundle: bundleOf(t, testDomain, w.root), Intentions: rowsFor("web", "api allow")})
		if got := w.decide("api", "web"); !got.Allowed() {
			t.Errorf("got %v after confirmation, want allow", got)
		}
		if got := w.c.cfg.MaxStale; got != w.c.MaxStale() {
			t.Errorf("got %v, want %v", got, w.c.MaxStale())
		}
	})
	if DefaultMaxStale != 72*time.Hour {
		t.Errorf("got default %v, want 72h", DefaultMaxStale)
	}
}

// shifted returns now as a process sees it whose wall clock was moved by d,
// while its monotonic clock went on. The layout is that of package time; a test
// that finds it changed fails at once.
func shifted(t *testing.T, now time.Time, d time.Duration) time.Time {
	t.Helper()
	out := now
	*(*uint64)(unsafe.Pointer(&out)) += uint64(int64(d/time.Second)) << 30
	if out.Sub(now) != 0 || out.Round(0).Sub(now.Round(0)) != d.Truncate(time.Second) {
		t.Fatal("time.Time is laid out in another way")
	}
	return out
}

func TestAgeWhenTheClockMoves(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name string
		// at is when the part was confirmed, moved how far the wall clock went
		// since.
		at    time.Time
		moved time.Duration
		want  time.Duration
	}{
		{"still", now.Add(-time.Minute), 0, time.Minute},
		{"set-back-a-day", now.Add(-time.Minute), -24 * time.Hour, time.Minute},
		{"set-forward-a-day", now.Add(-time.Minute), 24 * time.Hour, 24*time.Hour + time.Minute},
		{"restored", restored(now.Add(-time.Hour).Round(0), now), 0, time.Hour},
		{"restored-then-set-back", restored(now.Add(-time.Hour).Round(0), now), -30 * time.Minute, time.Hour},
		{"restored-then-set-forward", restored(now.Add(-time.Hour).Round(0), now), time.Hour, 2 * time.Hour},
		{"set-back-while-down", restored(now.Add(5*24*time.Hour).Round(0), now), 0, 5 * 24 * time.Hour},
		{"set-back-a-little-while-down", restored(now.Add(2*time.Second).Round(0), now), 0, 2 * time.Second},
		{"restored-now", restored(now.Round(0), now), 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c confirmation
			c.set(tt.at)
			if got := c.age(shifted(t, now, tt.moved)); got != tt.want {
				t.Errorf("got age %v, want %v", got, tt.want)
			}
		})
	}
	var none confirmation
	if got := none.age(now); got != never {
		t.Errorf("got age %v of what was never confirmed, want %v", got, never)
	}
	if got := now.Sub(restored(time.Time{}, now)); got < 200*365*24*time.Hour {
		t.Errorf("got age %v of the zero time, want centuries", got)
	}
}

func TestAdvanceNeverGoesBack(t *testing.T) {
	now := time.Now()
	var c confirmation
	for _, at := range []time.Time{now, now.Add(-time.Hour), {}, now.Add(-1)} {
		c.advance(at)
		if got := *c.at.Load(); !got.Equal(now) {
			t.Errorf("after %v: got %v, want %v", at, got, now)
		}
	}
}

// kill ends a world as SIGKILL would: what is in the store now is what the next
// one finds.
func (w *world) kill() *memory {
	w.t.Helper()
	left := newMemory()
	left.held, _ = w.store.Load()
	w.store.breaks(errKilled)
	w.stop()
	return left
}

func TestRestoreKeepsAges(t *testing.T) {
	tests := []struct {
		name string
		// before plays what happens until the kill; want is web's age at the
		// restart, which comes at once.
		before func(w *world)
		want   time.Duration
	}{
		{"killed-at-once", func(w *world) { w.fill("web") }, 0},
		{"killed-in-the-first-minute", func(w *world) { w.fill("web"); time.Sleep(30 * time.Second) }, 30 * time.Second},
		{"unconfirmed-for-an-hour", func(w *world) { w.fill("web"); time.Sleep(time.Hour) }, time.Hour},
		{"confirmed-every-minute", func(w *world) {
			w.fill("web")
			for range 60 {
				time.Sleep(time.Minute)
				w.tell(Update{Bundle: bundleOf(w.t, testDomain, w.root), Intentions: rowsFor("web", "api allow")})
			}
			time.Sleep(70 * time.Second)
		}, 70 * time.Second},
		{"written-after-the-last-record", func(w *world) {
			w.fill("db")
			time.Sleep(2 * time.Hour)
			w.tell(Update{Bundle: bundleOf(w.t, testDomain, w.root, newSigner(w.t, "two")), Intentions: rowsFor("web", "api allow")})
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, newMemory(), watching("web", "db"))
				tt.before(w)
				again := open(t, w.kill(), watching("web", "db"))
				// Confirmations are written rounded down to a second.
				if got := again.snapshot("web").Age(time.Now()); got < tt.want || got > tt.want+time.Second {
					t.Errorf("got age %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestRestoreNeverRejuvenates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web", "db"))
		w.fill("web", "db")
		store := w.kill()
		for i := range 5 {
			time.Sleep(time.Hour)
			again := open(t, store, watching("web", "db"))
			// Upstream confirms all but web's intentions.
			again.tell(Update{Bundle: bundleOf(t, testDomain, w.root), Intentions: rowsFor("db", "api allow")})
			time.Sleep(2 * time.Minute)
			if got, want := again.snapshot("web").Age(time.Now()), time.Duration(i+1)*time.Hour; got < want {
				t.Errorf("restart %d: got age %v, want %v at least", i, got, want)
			}
			if got := again.snapshot("db").Age(time.Now()); got > 3*time.Minute {
				t.Errorf("restart %d: got age %v of what was confirmed, want 2m", i, got)
			}
			store = again.kill()
		}
	})
}

// TestShortLivesKeepConfirmations crashes the daemon again and again before it
// has lived for a minute.
func TestShortLivesKeepConfirmations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		store := w.kill()
		for range 20 {
			again := open(t, store, watching("web"))
			again.tell(Update{Bundle: bundleOf(t, testDomain, w.root), Intentions: rowsFor("web", "api allow")})
			time.Sleep(40 * time.Second)
			store = again.kill()
		}
		again := open(t, store, watching("web"))
		if s := again.snapshot("web"); !s.Fresh(time.Now()) {
			t.Errorf("got age %v after confirmed lives of 40 s, want fresh", s.Age(time.Now()))
		}
	})
}

func TestConfirmationsAreWrittenOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		before := store.tries()
		for range 600 {
			w.tell(Update{Bundle: bundleOf(t, testDomain, w.root), Intentions: rowsFor("web", "api allow")})
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if got := store.tries() - before; got > 11 {
			t.Errorf("got %d commits in 10 minutes of confirmations, want 11 at most", got)
		}
	})
}
