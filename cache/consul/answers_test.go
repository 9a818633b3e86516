package consul

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// read is one kind of answer: how to ask for it and judge it, alone.
type read struct {
	name, path string
	ask        func(ctx context.Context, s *Source) error
}

func reads() []read {
	return []read{
		{"roots", rootsPath, func(ctx context.Context, s *Source) error {
			a, err := s.get(ctx, request{path: rootsPath})
			if err == nil {
				_, err = parseRoots(a.body)
			}
			return err
		}},
		{"leaf", leafPath + "web", func(ctx context.Context, s *Source) error {
			_, err := s.fetchLeaf(ctx, web, 0, 0)
			return err
		}},
		{"match", matchPath, func(ctx context.Context, s *Source) error {
			_, err := s.LiveIntentions(ctx, web)
			return err
		}},
		{"services", servicesPath, func(ctx context.Context, s *Source) error {
			_, err := s.localServices(ctx)
			return err
		}},
		{"self", selfPath, func(ctx context.Context, s *Source) error {
			_, err := s.readSelf(ctx)
			return err
		}},
		{"mesh", meshPath, func(ctx context.Context, s *Source) error {
			_, err := s.readNormalization(ctx)
			return err
		}},
		{"authorize", authorizePath, func(ctx context.Context, s *Source) error {
			_, err := s.postProbe(ctx, cache.Secret{}, []byte("{}"))
			return err
		}},
		{"health", healthConnectPath + "web", func(ctx context.Context, s *Source) error {
			_, err := s.Discover(ctx, cache.Lookup{Service: web, Mesh: true}, nil)
			return err
		}},
	}
}

// good is a whole answer of each kind.
func (f *fake) good() map[string]string {
	return map[string]string{
		"roots": f.roots, "leaf": f.ca.leaf("web", 9), "self": selfACLsOff, "authorize": f.authorize,
		"mesh":  `{"Kind":"mesh","HTTP":{"Incoming":{"RequestNormalization":{"MergeSlashes":true}}},"CreateIndex":7}`,
		"match": `{"web":` + rows(row("a", "web", "allow"), row("*", "web", "deny")) + `}`,
		"services": `{"web-1":{"ID":"web-1","Service":"web","Port":80,"Connect":{"Native":true},"Datacenter":"dc1"},` +
			`"db":{"ID":"db","Service":"db"}}`,
		"health": `[{"Node":{"Node":"n1","Address":"10.0.0.1"},"Service":{"ID":"web-1","Service":"web","Port":80}}]`,
	}
}

// TestCutAnswersAreRefused cuts an answer of each kind at every byte, once so
// that the connection ends early and once so that the cut body looks whole.
func TestCutAnswersAreRefused(t *testing.T) {
	for _, x := range reads() {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				s := f.source(Config{})
				defer s.short.CloseIdleConnections()
				s.bundle.Store(must(parseRoots([]byte(f.roots)))(t))
				body, cut, lie := f.good()[x.name], 0, false
				f.answer(x.path, func(w http.ResponseWriter, r *http.Request) {
					if lie {
						w.Header().Set("Content-Length", strconv.Itoa(len(body)))
					}
					say(w, 200, "9", body[:cut])
				})
				for cut = range len(body) {
					for _, lie = range []bool{false, true} {
						if err := x.ask(t.Context(), s); err == nil {
							t.Fatalf("the first %d of %d bytes were taken, with the length of all: %v", cut, len(body), lie)
						}
					}
				}
				cut = len(body)
				if err := x.ask(t.Context(), s); err != nil {
					t.Errorf("the whole answer was refused: %v", err)
				}
			})
		})
	}
}

// TestGarbageIsRefused answers every kind of question with what is no answer.
func TestGarbageIsRefused(t *testing.T) {
	garbage := map[string]string{
		"empty": "", "blank": " \n", "html": "<html><body>It works!</body></html>", "null": "null", "number": "1",
		"text": `"ok"`, "true": "true", "not_a_number": "NaN", "numbers": "[1,2]", "list_of_null": "[null]",
		"map_of_null": `{"web":null,"x":null,"DebugConfig":null}`, "deep": strings.Repeat("[", 20000),
		"deep_and_closed": strings.Repeat("[", 20000) + strings.Repeat("]", 20000),
		"wrong_types":     `{"web":5,"Roots":5,"Service":5,"DebugConfig":5,"Reason":5}`,
		"gzip":            "\x1f\x8b\x08\x00\x00\x00\x00\x00",
	}
	for _, x := range reads() {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				s := f.source(Config{})
				defer s.short.CloseIdleConnections()
				s.bundle.Store(must(parseRoots([]byte(f.roots)))(t))
				good := f.good()[x.name]
				all := map[string]string{
					"trailing_brace": good + "}", "twice": good + good, "byte_order_mark": "\ufeff" + good,
					"invalid_utf8": strings.Replace(good, `"`, "\"\xff", 1),
				}
				for name, body := range garbage {
					all[name] = body
				}
				if x.name == "match" {
					// Null is how Consul says that there are no intentions.
					delete(all, "map_of_null")
					all["other_name"], all["one_more"] = `{"db":null}`, `{"web":null,"db":null}`
					all["row_of_another"] = `{"web":` + rows(row("a", "db", "allow")) + `}`
					all["unknown_action"] = `{"web":` + rows(row("a", "web", "log")) + `}`
					all["no_source"] = `{"web":` + rows(row("", "web", "allow")) + `}`
				}
				for name, body := range all {
					f.answer(x.path, func(w http.ResponseWriter, r *http.Request) { say(w, 200, "9", body) })
					if err := x.ask(t.Context(), s); err == nil {
						t.Errorf("%s was taken", name)
					}
				}
			})
		})
	}
}

// TestRootsRefused holds bundles that must never be published.
func TestRootsRefused(t *testing.T) {
	one, two := newAuthority(t, "one"), newAuthority(t, "two")
	good := rootsBody(one, two)
	leaf := newAuthority(t, "one")
	leaf.pem = encodePEM("CERTIFICATE", leafDER(t, one))
	for name, body := range map[string]string{
		"no_trust_domain":   strings.Replace(good, `"TrustDomain":"`+testDomain, `"TrustDomain":"`, 1),
		"no_active_root":    strings.Replace(good, `"ActiveRootID":"one"`, `"ActiveRootID":""`, 1),
		"other_active_root": strings.Replace(good, `"ActiveRootID":"one"`, `"ActiveRootID":"three"`, 1),
		"two_active_roots":  rootsBody(one, one),
		"no_signing_key":    strings.Replace(good, two.keyID(), "", 1),
		"leaf_as_root":      rootsBody(leaf),
		"no_certificate":    strings.Replace(good, "BEGIN CERTIFICATE", "BEGIN ROOT", 1),
		"private_key":       strings.Replace(good, "CERTIFICATE", "PRIVATE KEY", 2),
		"no_roots":          `{"ActiveRootID":"one","TrustDomain":"` + testDomain + `","Roots":[]}`,
		"null_root":         `{"ActiveRootID":"one","TrustDomain":"` + testDomain + `","Roots":[null]}`,
		"serial_as_text":    strings.Replace(good, `"SerialNumber":7`, `"SerialNumber":"7"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if body == good {
				t.Fatal("nothing was replaced")
			}
			if b, err := parseRoots([]byte(body)); err == nil {
				t.Errorf("took %+v", b)
			}
		})
	}
	if _, err := parseRoots([]byte(good)); err != nil {
		t.Errorf("the good bundle was refused: %v", err)
	}
}

func leafDER(t *testing.T, ca *authority) []byte {
	l := must(judge(t, ca).parseLeaf(web, answer{body: []byte(ca.leaf("web", 9)), index: 9}, time.Now()))(t)
	return pemBytes(t, l.CertPEM)
}

// TestBadAnswersKeepTheOldValue runs a source through a phase of garbage on
// all routes: nothing of it is published, and it recovers by itself.
func TestBadAnswersKeepTheOldValue(t *testing.T) {
	for name, body := range map[string]string{
		"html": "<html>", "empty": "", "null": "null", "object": "{}", "list": "[]", "invalid_utf8": "{\"\xff\":1}",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.services = f.good()["services"]
				f.intend("web", row("a", "web", "deny"))
				to := f.run(f.source(Config{}), leavesOf("web")...)
				pass(time.Second)
				before := to.values()
				f.answer("/v1/", func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == servicesPath && body == "{}" {
						say(w, 200, "", "[]") // An empty object is a valid list of services.
						return
					}
					say(w, 200, "99", body)
				})
				pass(10 * time.Minute)
				if got := to.values(); !maps.Equal(got, before) {
					t.Errorf("published %v, want only %v", got, before)
				}
				for _, watch := range []string{cache.WatchBundle, cache.WatchIntentions, cache.WatchLocal, cache.WatchDefault} {
					if to.kind(watch, "") == "" {
						t.Errorf("watch %s does not fail", watch)
					}
				}
				f.heal()
				f.intend("web", row("a", "web", "allow"))
				pass(time.Minute)
				if !strings.Contains(to.rows("web"), "allow") {
					t.Errorf("got rows %s after the recovery", to.rows("web"))
				}
				for _, watch := range []string{cache.WatchBundle, cache.WatchIntentions, cache.WatchLocal, cache.WatchDefault} {
					if x := to.failure(watch, ""); x != nil {
						t.Errorf("watch %s still fails: %v", watch, x)
					}
				}
			})
		})
	}
}

// endless is a body that never ends; it counts what was taken of it.
func endless(w http.ResponseWriter, taken *int) {
	w.Header().Set("X-Consul-Index", "9")
	w.WriteHeader(200)
	io.WriteString(w, `{"a":"`)
	for chunk := strings.Repeat("x", 64<<10); ; *taken += len(chunk) {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
	}
}

func TestEndlessBodiesAreCutOff(t *testing.T) {
	for _, x := range reads() {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				s := f.source(Config{})
				defer s.short.CloseIdleConnections()
				s.bundle.Store(must(parseRoots([]byte(f.roots)))(t))
				taken := 0
				f.answer(x.path, func(w http.ResponseWriter, r *http.Request) { endless(w, &taken) })
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := x.ask(t.Context(), s)
				runtime.ReadMemStats(&after)
				synctest.Wait()
				if err == nil {
					t.Error("an endless answer was taken")
				}
				if taken > maxBody+1<<20 {
					t.Errorf("%d bytes were read", taken)
				}
				if spent := after.TotalAlloc - before.TotalAlloc; spent > 5*maxBody {
					t.Errorf("%d bytes were allocated", spent)
				}
			})
		})
	}
}

// TestLimitIsExact takes an answer of 8 MiB and refuses one byte more.
func TestLimitIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.source(Config{})
		defer s.short.CloseIdleConnections()
		for _, more := range []int{0, 1} {
			f.answer(servicesPath, func(w http.ResponseWriter, r *http.Request) {
				say(w, 200, "", "{"+strings.Repeat(" ", maxBody-2+more)+"}")
			})
			if _, err := s.localServices(t.Context()); (err == nil) != (more == 0) {
				t.Errorf("with %d bytes above the limit: %v", more, err)
			}
		}
	})
}

// TestLongErrorsAreShort keeps what a broken agent writes out of the logs.
func TestLongErrorsAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.source(Config{})
		defer s.short.CloseIdleConnections()
		s.bundle.Store(must(parseRoots([]byte(f.roots)))(t))
		long := strings.Repeat("ä\x1b[31m\u202e\n", 1<<16)
		for _, status := range []int{403, 404, 429, 500, 503} {
			f.answer("/v1/", func(w http.ResponseWriter, r *http.Request) { say(w, status, "7", long) })
			checkShort(t, s.LiveIntentions, fmt.Sprint(status))
		}
		for name, body := range map[string]string{
			"uri":         f.ca.leaf("web", 9, func(s *leafSpec) { s.answer.ServiceURI = long }),
			"service":     f.ca.leaf("web", 9, func(s *leafSpec) { s.answer.Service = long }),
			"destination": `{"web":` + rows(row("a", strings.Repeat("long", 1<<16), "allow")) + `}`,
			"action":      `{"web":` + rows(row("a", "web", strings.Repeat("long", 1<<16))) + `}`,
		} {
			f.answer("/v1/", func(w http.ResponseWriter, r *http.Request) { say(w, 200, "7", body) })
			checkShort(t, s.LiveIntentions, name)
			_, err := s.fetchLeaf(t.Context(), web, 0, 0)
			checkText(t, err, name)
		}
	})
}

func checkShort[T any](t *testing.T, ask func(context.Context, intentions.Service) (T, error), name string) {
	t.Helper()
	_, err := ask(t.Context(), web)
	checkText(t, err, name)
}

func checkText(t *testing.T, err error, name string) {
	t.Helper()
	if err == nil || len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\n\x1b\u202e") {
		t.Errorf("%s: got error %.200q of %d bytes", name, err, len(fmt.Sprint(err)))
	}
}

func FuzzParseRoots(f *testing.F) {
	good := recorded(f, "roots.json")
	if _, err := parseRoots(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, seed := range []string{`null`, `{"Roots":[null]}`, `{"Roots":[{}],"TrustDomain":"x"}`, `{"Roots":{}}`, "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := parseRoots(body)
		if err != nil {
			return
		}
		if b.TrustDomain == "" || b.Active() == nil || b.Active().SigningKeyID == "" {
			t.Errorf("took %+v", b)
		}
	})
}
