package consul

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

func tokenFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	writeToken(t, path, text)
	return path
}

// writeToken replaces the file as tools do: a new file takes the old name.
func writeToken(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestTokensStayOnTheirRoutes runs with a read token and two of services: each
// of these appears only on the leaf route of its service.
func TestTokensStayOnTheirRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.source(Config{
			TokenFile: tokenFile(t, "read"),
			ServiceTokenFiles: map[intentions.Service]string{
				web: tokenFile(t, "for-web"), intentions.NewService("db"): tokenFile(t, "for-db"),
			},
		})
		f.run(s, leavesOf("web", "db", "api")...)
		pass(2 * time.Hour)
		if _, err := s.Discover(t.Context(), cache.Lookup{Service: web, Mesh: true}, nil); err != nil {
			t.Error(err)
		}
		want := map[string]string{leafPath + "web": "for-web", leafPath + "db": "for-db"}
		for _, x := range f.requests("/", time.Time{}) {
			token := want[x.path]
			if token == "" {
				token = "read"
			}
			if x.token != token || strings.Contains(x.query.Encode(), "for-") {
				t.Errorf("%s was asked with token %q and query %v, want %q", x.path, x.token, x.query, token)
			}
		}
	})
}

// TestNoReadToken has only a service's token: it carries that service's
// questions, and the shared routes are asked without any.
func TestNoReadToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.run(f.source(Config{ServiceTokenFiles: map[intentions.Service]string{web: tokenFile(t, "for-web")}}), leavesOf("web", "db")...)
		pass(10 * time.Second)
		for _, x := range f.requests("/", time.Time{}) {
			of := strings.Contains(x.path, leafPath+"web") || x.query.Get("name") == "web"
			if (x.token == "for-web") != of || (!of && x.token != "") {
				t.Errorf("%s %v was asked with token %q", x.path, x.query, x.token)
			}
		}
	})
}

func TestChangedTokenFileIsPickedUp(t *testing.T) {
	for _, name := range []string{"read_token", "service_token"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.answer("/", func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("X-Consul-Token") == "bad" {
						say(w, 403, "", "ACL not found")
						return
					}
					f.serve(w, r)
				})
				read, own := tokenFile(t, "old"), tokenFile(t, "old")
				bad := map[string]string{"read_token": read, "service_token": own}[name]
				writeToken(t, bad, "bad")
				to := f.run(f.source(Config{TokenFile: read, ServiceTokenFiles: map[intentions.Service]string{web: own}}), leavesOf("web")...)
				pass(20 * time.Minute)
				writeToken(t, bad, "new")
				// Long pauses are cut short: nobody waits for the end of a backoff.
				pass(tokensEvery + 3*time.Second)
				if to.leaf("web") == nil || to.rows("web") == "" || to.bundle() == nil {
					t.Errorf("got leaf %v, rows %q, bundle %v", to.leaf("web"), to.rows("web"), to.bundle())
				}
				for _, watch := range []string{cache.WatchIntentions, cache.WatchBundle, cache.WatchDefault} {
					if x := to.failure(watch, ""); x != nil {
						t.Errorf("watch %s fails: %v", watch, x)
					}
				}
			})
		})
	}
}

func TestBrokenTokenFileKeepsTheLast(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"removed":   os.Remove,
		"empty":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"two_words": func(path string) error { return os.WriteFile(path, []byte("one two"), 0o600) },
		"too_long":  func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
		"two_lines": func(path string) error { return os.WriteFile(path, []byte("one\ntwo\n"), 0o600) },
		"directory": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				path := tokenFile(t, "good")
				to := f.run(f.source(Config{TokenFile: path}), leavesOf("web")...)
				pass(10 * time.Second)
				if err := spoil(path); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				pass(2 * time.Minute)
				for _, x := range f.requests("/", began) {
					if x.token != "good" {
						t.Fatalf("%s was asked with token %q", x.path, x.token)
					}
				}
				if x := to.failure(cache.WatchToken, ""); x == nil || !strings.Contains(x.Message, "token file") {
					t.Errorf("got %v", x)
				}
				os.RemoveAll(path)
				writeToken(t, path, "better")
				pass(tokensEvery)
				began = time.Now()
				pass(2 * time.Minute)
				for _, x := range f.requests("/", began) {
					if x.token != "better" {
						t.Fatalf("%s was asked with token %q after the repair", x.path, x.token)
					}
				}
				if x := to.failure(cache.WatchToken, ""); x != nil {
					t.Errorf("got %v after the repair", x)
				}
			})
		})
	}
}

// TestTokenOfEqualLookIsSeen replaces a token by one of the same length and
// time, as an unpacked backup does.
func TestTokenOfEqualLookIsSeen(t *testing.T) {
	path := tokenFile(t, "aaaa")
	x := must(fileToken(path))(t)
	info := must(os.Stat(path))(t)
	writeToken(t, path, "bbbb")
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if other, err := x.reload(); !other || err != nil || x.value().Reveal() != "bbbb" {
		t.Errorf("got %v, %v", other, err)
	}
}
