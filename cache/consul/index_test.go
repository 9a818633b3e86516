package consul

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
)

var (
	allowA = row("a", "web", "allow")
	denyA  = row("a", "web", "deny")
)

// TestUselessIndexes answers with indexes that cannot be blocked on. The old
// value stays and the agent is not hammered.
func TestUselessIndexes(t *testing.T) {
	for name, index := range map[string]string{
		"absent": "", "zero": "0", "negative": "-1", "text": "abc", "float": "1.5", "too_large": "18446744073709551616",
		"hex": "0x10", "plus": "+5",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.intend("web", denyA)
				to := f.run(f.source(Config{}), leavesOf("web")...)
				pass(2 * time.Minute)
				before := to.values()
				f.answer("/v1/connect/", func(w http.ResponseWriter, r *http.Request) {
					body := rootsBody(f.ca, newAuthority(t, "two"))
					if r.URL.Path == matchPath {
						body = `{"web":` + rows(allowA) + `}`
					}
					say(w, 200, index, body)
				})
				pass(2 * time.Minute)
				began := time.Now()
				pass(5 * time.Minute)
				if n := len(to.values()); n != len(before) {
					t.Errorf("got %d values, want the %d from before", n, len(before))
				}
				if to.kind(cache.WatchIntentions, "") != cache.FailureInvalid || to.kind(cache.WatchBundle, "") != cache.FailureInvalid {
					t.Errorf("got failures %v, %v", to.failure(cache.WatchIntentions, ""), to.failure(cache.WatchBundle, ""))
				}
				if got := f.requests("/v1/connect/", began); len(got) > 300 {
					t.Errorf("in five minutes got %s", tally(got))
				}
			})
		})
	}
}

// TestIndexOfErrorsIsIgnored lets errors carry index 1, as Consul does.
func TestIndexOfErrorsIsIgnored(t *testing.T) {
	for _, status := range []int{403, 429, 500, 503} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.intend("web", denyA)
			to := f.run(f.source(Config{}), policies("web")...)
			pass(time.Second)
			f.answer(matchPath, func(w http.ResponseWriter, r *http.Request) { say(w, status, "1", "No cluster leader") })
			pass(5 * time.Minute)
			for _, x := range f.requests(matchPath, time.Now().Add(-2*time.Minute)) {
				if x.query.Has("index") {
					t.Fatalf("after an error a query blocks on index %s", x.query.Get("index"))
				}
			}
			// An allow that comes with the first good answer is no rollback: its
			// index is above the last good one.
			f.intend("web", allowA)
			f.heal()
			pass(time.Minute)
			if got := to.rows("web"); got != rows(allowA) {
				t.Errorf("after status %d got %s", status, got)
			}
		})
	}
}

// TestReset plays a cluster that was restored from a snapshot: the index goes
// back. What narrows counts at once, what widens only when it is said again.
func TestReset(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after []string
		prompt        bool
	}{
		{"widens_by_action", []string{denyA}, []string{allowA}, false},
		{"widens_by_removal", []string{denyA}, nil, false},
		{"widens_by_addition", nil, []string{allowA}, false},
		{"narrows_by_addition", []string{row("*", "web", "allow")}, []string{denyA, row("*", "web", "allow")}, true},
		{"narrows_by_removal", []string{allowA, row("*", "web", "deny")}, []string{row("*", "web", "deny")}, true},
		{"stays", []string{denyA}, []string{denyA}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.rowsIndex = 1000
				f.intend("web", c.before...)
				to := f.run(f.source(Config{}), policies("web")...)
				pass(5 * time.Second)
				f.reset(10, c.after...)
				want := "null"
				if len(c.after) > 0 {
					want = rows(c.after...)
				}
				pass(100 * time.Millisecond)
				if got := to.rows("web"); (got == want) != c.prompt {
					t.Errorf("at once got %s", got)
				}
				pass(1800 * time.Millisecond)
				if got := to.rows("web"); (got == want) != c.prompt {
					t.Errorf("within 2 s got %s", got)
				}
				pass(2 * time.Second)
				if got := to.rows("web"); got != want {
					t.Errorf("after 4 s got %s, want %s", got, want)
				}
				began := time.Now()
				pass(10 * time.Minute)
				if n := len(f.requests(matchPath, began)); n > 12 {
					t.Errorf("the query does not block any more: %d in ten minutes", n)
				}
				f.intend("web", allowA, denyA)
				pass(10 * time.Millisecond)
				if got := to.rows("web"); got != rows(allowA, denyA) {
					t.Errorf("a change after the reset is not seen: %s", got)
				}
			})
		})
	}
}

// reset gives the intentions of web and lets their index go back; blocked
// queries are answered, as when a store is abandoned.
func (f *fake) reset(index uint64, list ...string) {
	f.change(func() {
		f.rowsIndex = index
		f.rows["web"] = rows(list...)
		if len(list) == 0 {
			delete(f.rows, "web")
		}
		f.abandoned++
	})
}

// TestSingleOddAnswer gives one wrong answer with an old index: it never
// widens anything.
func TestSingleOddAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.rowsIndex = 1000
		f.intend("web", denyA)
		to := f.run(f.source(Config{}), policies("web")...)
		pass(5 * time.Second)
		for range 50 {
			f.reset(10, allowA)
			pass(100 * time.Millisecond)
			f.reset(1001, denyA)
			pass(10 * time.Second)
		}
		for text := range to.values() {
			if strings.Contains(text, `"allow"`) {
				t.Errorf("published %s", text)
			}
		}
	})
}

// TestResetDuringReplan changes the wanted set together with a rollback: the
// new query remembers what the old one knew.
func TestResetDuringReplan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.rowsIndex = 1000
		f.intend("web", denyA)
		to := f.run(f.source(Config{}), policies("web")...)
		pass(5 * time.Second)
		f.mu.Lock()
		f.rowsIndex, f.rows["web"] = 10, rows(allowA)
		f.mu.Unlock()
		to.want(policies("web", "db")...)
		pass(gatherChanges + time.Second)
		if got := to.rows("web"); got != rows(denyA) {
			t.Errorf("a single answer with an old index was believed: %s", got)
		}
		pass(5 * time.Second)
		if got := to.rows("web"); got != rows(allowA) || to.rows("db") != "null" {
			t.Errorf("the reset was not believed in the end: %s, %s", got, to.rows("db"))
		}
	})
}

func TestRootsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.rootsIndex = 1000
		to := f.run(f.source(Config{}))
		pass(5 * time.Second)
		two := newAuthority(t, "two")
		f.change(func() { f.roots, f.rootsIndex, f.abandoned = rootsBody(two, f.ca), 10, f.abandoned+1 })
		pass(1900 * time.Millisecond)
		if got := to.bundle().ActiveRootID; got != "one" {
			t.Errorf("a single answer with an old index made root %s active", got)
		}
		pass(2 * time.Second)
		if got := to.bundle().ActiveRootID; got != "two" {
			t.Errorf("in the end root %s is active, want two", got)
		}
	})
}

// TestRestlessAgent answers blocking queries at once, with an index that
// stays, grows or jumps. The body never changes, so about one request a second
// is the most.
func TestRestlessAgent(t *testing.T) {
	for name, next := range map[string]func(n uint64) uint64{
		"same":      func(uint64) uint64 { return 7 },
		"growing":   func(n uint64) uint64 { return 7 + n },
		"falling":   func(n uint64) uint64 { return 1<<40 - n },
		"jumping":   func(n uint64) uint64 { return 7 + n%2*5 },
		"very_huge": func(uint64) uint64 { return 1<<64 - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n uint64
				asked := 0
				l := &loop{s: &Source{}, slowest: time.Second,
					ask: func(context.Context, uint64) (answer, error) {
						n++
						asked++
						return answer{body: []byte("{}"), index: next(n)}, nil
					},
					accept: func(context.Context, answer) error { return nil },
					failed: func(context.Context, error) {},
				}
				ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
				defer stop()
				if err := l.run(ctx, never); err != nil || asked > 605 || asked < 5 {
					t.Errorf("asked %d times in ten minutes, error %v", asked, err)
				}
			})
		})
	}
}

// TestStormOfChanges bounds even answers that are all different.
func TestStormOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		l := &loop{s: &Source{}, slowest: time.Second,
			ask: func(context.Context, uint64) (answer, error) {
				asked++
				return answer{body: []byte(strings.Repeat("x", asked)), index: uint64(asked)}, nil
			},
			accept: func(context.Context, answer) error { return nil },
			failed: func(context.Context, error) {},
		}
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Second, stop)
		if err := l.run(ctx, never); err != nil || asked > stormBurst+100*stormRate+1 {
			t.Errorf("asked %d times in 100 s, error %v", asked, err)
		}
	})
}
