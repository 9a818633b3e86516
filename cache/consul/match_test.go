package consul

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// TestBudgetOfHeldQueries counts what is open at the agent on plain HTTP for
// any number of names.
func TestBudgetOfHeldQueries(t *testing.T) {
	for _, n := range []int{0, 1, 2, 50, 51, 100, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				to := f.run(f.source(Config{}), policies(names("web", n)...)...)
				pass(5 * time.Second)
				f.checkBudget(t)
				for i := range 5 {
					to.want(policies(names("web", n+i+1)...)...)
					pass(gatherChanges / 2)
					f.checkBudget(t)
					pass(2 * time.Second)
					f.checkBudget(t)
				}
				pass(10 * time.Minute)
				f.checkBudget(t)
				if list := f.requests(matchPath, time.Now().Add(-9*time.Minute)); len(list) > 20 {
					t.Errorf("%d match queries in nine minutes", len(list))
				}
				for _, name := range names("web", n+5) {
					if to.rows(name) != "null" {
						t.Fatalf("no rows for %s", name)
					}
				}
			})
		})
	}
}

// checkBudget wants at most four held queries, two of them for intentions, and
// at most three connections beside.
func (f *fake) checkBudget(t *testing.T) {
	t.Helper()
	holding, conns := f.open()
	f.mu.Lock()
	matches := f.matching
	f.mu.Unlock()
	if holding > maxHeld || matches > heldMatches || conns > maxHeld+maxShort {
		t.Errorf("%d queries are held, %d of them for intentions, on %d connections", holding, matches, conns)
	}
}

// TestTokensShareTheBudget gives many services a token of their own.
func TestTokensShareTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := Config{ServiceTokenFiles: map[intentions.Service]string{}}
		list := names("web", 10)
		for _, name := range list {
			c.ServiceTokenFiles[intentions.NewService(name)] = tokenFile(t, "token-of-"+name)
		}
		to := f.run(f.source(c), policies(list...)...)
		pass(5 * time.Second)
		f.checkBudget(t)
		for _, name := range list {
			f.intend(name, row("a", name, "allow"))
		}
		pass(pollMatches + time.Second)
		for _, name := range list {
			if got := to.rows(name); got != rows(row("a", name, "allow")) {
				t.Errorf("%s: got %s", name, got)
			}
		}
		pass(time.Minute)
		f.checkBudget(t)
		for _, x := range f.requests(matchPath, time.Time{}) {
			for _, name := range x.query["name"] {
				if x.token != "token-of-"+name {
					t.Fatalf("%s was asked for with %q", name, x.token)
				}
			}
		}
	})
}

// TestGroupsOverTLS carries 50 names a query on one connection.
func TestGroupsOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		to := f.run(f.tlsSource(), policies(names("web", 101)...)...)
		pass(5 * time.Second)
		if holding, conns := f.open(); holding != 4 || conns != 1 {
			t.Errorf("%d queries on %d connections, want 3 and the roots on one", holding, conns)
		}
		f.intend("web-0100", row("a", "web-0100", "deny"))
		pass(10 * time.Millisecond)
		if got := to.rows("web-0100"); got != rows(row("a", "web-0100", "deny")) {
			t.Errorf("got %s", got)
		}
	})
}

// TestChangingWantsLoseNothing changes intentions at every stage of a new plan.
func TestChangingWantsLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		steady := policies("web")
		to := f.run(f.source(Config{}), steady...)
		pass(time.Second)
		for i, delay := range []time.Duration{0, 1, gatherChanges / 2, gatherChanges - 1, gatherChanges, gatherChanges + 1, time.Second} {
			to.want(append(steady, policies(names("new", i+1)...)...)...)
			pass(delay)
			want := row(fmt.Sprintf("caller-%d", i), "web", "allow")
			f.intend("web", want)
			pass(gatherChanges + 100*time.Millisecond)
			if got := to.rows("web"); got != rows(want) {
				t.Errorf("after %s: got %s", delay, got)
			}
			if got := to.rows(names("new", i+1)[i]); got != "null" {
				t.Errorf("after %s: the new name has rows %q", delay, got)
			}
			to.want(steady...)
			pass(time.Second)
		}
	})
}

// TestManyWantChangesCostFewQueries gathers changes of the wanted set.
func TestManyWantChangesCostFewQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		to := f.run(f.source(Config{}))
		pass(time.Second)
		for i := range 100 {
			to.want(policies(names("web", i+1)...)...)
			pass(time.Millisecond)
		}
		pass(time.Second)
		if n := len(f.requests(matchPath, time.Time{})); n > 5 {
			t.Errorf("%d queries for one burst of new names", n)
		}
		if to.rows("web-0099") != "null" {
			t.Error("the last name has no rows")
		}
	})
}

// deny refuses queries that name one of these, as Consul does: all or nothing.
func (f *fake) deny(list ...string) {
	f.answer(matchPath, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range r.URL.Query()["name"] {
			if slices.Contains(list, name) {
				say(w, 403, "1", "Permission denied: token with AccessorID 'x' lacks permission 'intention:read' on \""+name+"\"")
				return
			}
		}
		f.serve(w, r)
	})
}

func TestDeniedNamesAreSetAside(t *testing.T) {
	for name, c := range map[string]struct {
		n      int
		denied []string
	}{
		"only_one": {1, names("web", 1)}, "one_of_two": {2, names("web", 2)[1:]}, "one_of_many": {400, names("web", 400)[123:124]},
		"several": {400, []string{"web-0000", "web-0001", "web-0250", "web-0399"}}, "all": {8, names("web", 8)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.deny(c.denied...)
				all := names("web", c.n)
				to := f.run(f.source(Config{}), policies(all...)...)
				pass(20 * time.Second)
				for _, name := range all {
					got, kind := to.rows(name), to.kind(cache.WatchIntentions, name)
					if denied := slices.Contains(c.denied, name); denied != (got == "") || denied != (kind == cache.FailureRefused) {
						t.Errorf("%s: got rows %q and failure %q", name, got, kind)
					}
				}
				if x := to.failure(cache.WatchIntentions, ""); x != nil {
					t.Errorf("the watch fails for all: %v", x)
				}
				began := time.Now()
				pass(10 * time.Minute)
				if n := len(f.requests(matchPath, began)); n > 10*(12+retryBudget) {
					t.Errorf("%d queries in ten minutes", n)
				}
				f.deny(c.denied[1:]...)
				pass(2*retryDenied + time.Minute)
				if first := c.denied[0]; to.rows(first) != "null" || to.failure(cache.WatchIntentions, first) != nil {
					t.Errorf("%s did not recover: %v", first, to.failure(cache.WatchIntentions, first))
				}
				f.heal()
				pass(2*retryDenied + time.Minute)
				began = time.Now()
				pass(10 * time.Minute)
				if n := len(f.requests(matchPath, began)); n > 25 {
					t.Errorf("%d queries in ten minutes after the recovery", n)
				}
				for _, name := range all {
					if to.rows(name) != "null" || to.failure(cache.WatchIntentions, name) != nil {
						t.Errorf("%s did not recover: %v", name, to.failure(cache.WatchIntentions, name))
					}
				}
			})
		})
	}
}

// TestDeniedNameUsesItsOwnToken has a service with its own token among those
// that the read token may not read, and one alone.
func TestDeniedNameUsesItsOwnToken(t *testing.T) {
	for _, others := range []int{0, 3} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			own := intentions.NewService("own")
			f.answer(matchPath, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Consul-Token") == "read" && slices.Contains(r.URL.Query()["name"], "own") {
					say(w, 403, "", "Permission denied")
					return
				}
				f.serve(w, r)
			})
			to := f.run(f.source(Config{
				TokenFile: tokenFile(t, "read"), ServiceTokenFiles: map[intentions.Service]string{own: tokenFile(t, "its-own")},
			}), policies(append(names("web", others), "own")...)...)
			pass(10 * time.Second)
			if to.rows("own") != "null" || to.failure(cache.WatchIntentions, "own") != nil {
				t.Errorf("with %d others: got rows %q, failure %v", others, to.rows("own"), to.failure(cache.WatchIntentions, "own"))
			}
		})
	}
}

// TestUnknownTokenIsNoMatterOfNames does not search for denied names when
// Consul does not know the token at all.
func TestUnknownTokenIsNoMatterOfNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer(matchPath, func(w http.ResponseWriter, r *http.Request) { say(w, 403, "1", "ACL not found") })
		to := f.run(f.source(Config{}), policies(names("web", 500)...)...)
		pass(time.Minute)
		if n := len(f.requests(matchPath, time.Time{})); n > 40 {
			t.Errorf("%d queries in a minute", n)
		}
		if got := to.kind(cache.WatchIntentions, ""); got != cache.FailureRefused {
			t.Errorf("got failure %q", got)
		}
	})
}

// TestForgottenNamesAreNotReported takes a denied name out of the wanted set.
func TestForgottenNamesAreNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.deny("web-0001")
		to := f.run(f.source(Config{}), policies(names("web", 3)...)...)
		pass(10 * time.Second)
		to.want(policies("web-0000")...)
		pass(time.Second)
		to.mu.Lock()
		to.told = nil
		to.mu.Unlock()
		began := time.Now()
		pass(5 * time.Minute)
		if x := to.failure(cache.WatchIntentions, "web-0001"); x != nil {
			t.Errorf("a name that is not wanted fails: %v", x)
		}
		for _, x := range f.requests(matchPath, began) {
			if slices.Contains(x.query["name"], "web-0001") {
				t.Fatal("a name that is not wanted is asked for")
			}
		}
	})
}

// TestLargeAnswersAreSplit makes all rows together larger than 8 MiB.
func TestLargeAnswersAreSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		list := names("web", 4)
		filler := `,"Description":"` + strings.Repeat("x", 3<<20) + `"}`
		for _, name := range list {
			f.intend(name, strings.TrimSuffix(row("a", name, "deny"), "}")+filler)
		}
		to := f.run(f.source(Config{}), policies(list...)...)
		pass(time.Second)
		for _, name := range list {
			if to.rows(name) == "" {
				t.Fatalf("%s has no rows", name)
			}
		}
		f.checkBudget(t)
		for _, name := range []string{list[0], list[3]} {
			f.intend(name, row("a", name, "allow"))
			pass(pollMatches + time.Second)
			if to.rows(name) != rows(row("a", name, "allow")) {
				t.Errorf("a change of %s is not seen", name)
			}
		}
		f.checkBudget(t)
		if x := to.failure(cache.WatchIntentions, ""); x != nil {
			t.Errorf("the watch fails: %v", x)
		}
	})
}

// TestTooLargeForOneName cannot be helped; it is reported and not hammered.
func TestTooLargeForOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.intend("web", strings.TrimSuffix(denyA, "}")+`,"Description":"`+strings.Repeat("x", maxBody)+`"}`)
		to := f.run(f.source(Config{}), policies("web", "db")...)
		pass(5 * time.Second)
		if to.rows("web") != "" || to.rows("db") != "null" {
			t.Errorf("got rows %q and %q", to.rows("web"), to.rows("db"))
		}
		if x := to.failure(cache.WatchIntentions, ""); x == nil {
			t.Error("nothing is reported")
		}
		began := time.Now()
		pass(30 * time.Second)
		if n := len(f.requests(matchPath, began)); n > 30 {
			t.Errorf("%d queries in half a minute", n)
		}
	})
}

func FuzzParseMatch(f *testing.F) {
	f.Add([]byte(`{"web":` + rows(allowA, row("*", "*", "deny")) + `,"db":null}`))
	for _, seed := range []string{`{"web":null,"db":null}`, `{"web":null,"db":[{}]}`, `{"web":null,"web":null}`, `{"web":1,"db":2}`,
		`{"web":[{"SourceName":"*","DestinationName":"WEB","Action":"allow","action":"deny","Permissions":[null]}],"db":[]}`,
		`{"web":[null],"db":null}`, `null`, "\xff"} {
		f.Add([]byte(seed))
	}
	list := []intentions.Service{web, intentions.NewService("db")}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseMatch(body, list, nil)
		if err != nil {
			return
		}
		for _, name := range list {
			raw, ok := got[name]
			if !ok || !json.Valid(raw) {
				t.Fatalf("%s has rows %q", name, raw)
			}
			parsed, err := intentions.ParseIntentions(raw)
			if err != nil {
				t.Fatalf("rows were taken that cannot be parsed: %v", err)
			}
			for _, x := range parsed {
				if x.DestinationName != "*" && !strings.EqualFold(x.DestinationName, name.Name) {
					t.Errorf("%s has a row of %s", name, x.DestinationName)
				}
			}
		}
		if again, err := parseMatch(body, list, got); err != nil || len(again) != len(got) {
			t.Errorf("the same answer is refused when it is known: %v", err)
		}
	})
}
