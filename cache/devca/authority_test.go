package devca

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const webToDB = `Kind = "service-intentions" Name = "db" Sources = [{ Name = "web" Action = "allow" }]`

var web, db = intentions.NewService("web"), intentions.NewService("db")

func newAuthority(t *testing.T, cfg Config) *Authority {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// runCache runs a cache over the authority until the test ends. It is called
// in a bubble, where synctest.Wait tells that everything has settled.
func runCache(t *testing.T, a *Authority, services ...intentions.Service) *cache.Cache {
	t.Helper()
	c, err := cache.New(cache.Config{Source: a, Services: services})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run cache: %v", err)
		}
	})
	synctest.Wait()
	return c
}

// pass lets the time of the bubble go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func decide(t *testing.T, c *cache.Cache, source string, destination intentions.Service) intentions.Decision {
	t.Helper()
	s, _ := c.Snapshot(destination)
	id := intentions.ID{TrustDomain: TrustDomain, Service: intentions.NewService(source), Datacenter: "dc1"}
	return s.Decide(id.String(), nil)
}

func TestNewRefusesBadConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"short_leaves", Config{LeafLifetime: time.Second}, "at least 1m"},
		{"datacenter", Config{Datacenter: "a/b"}, "datacenter"},
		{"dir_and_content", Config{Dir: t.TempDir(), Intentions: map[string]string{"a": webToDB}}, "directory"},
		{"no_dir", Config{Dir: filepath.Join(t.TempDir(), "x")}, "create it"},
		{"broken_content", Config{Intentions: map[string]string{"a.hcl": "Kind ="}}, "a.hcl:1: "},
		{"service", Config{Services: []Service{{Name: "web"}}}, "port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestEverythingIsServedAndStaysFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, Config{
			Intentions: map[string]string{"sample.hcl": webToDB},
			Services:   []Service{{Name: "web", Port: 8080}, {Name: "db", Port: 5432}},
		})
		c := runCache(t, a)
		for _, s := range []intentions.Service{web, db} {
			snapshot, _ := c.Snapshot(s)
			if snapshot == nil || !snapshot.Ready() {
				t.Fatalf("%s is not ready", s)
			}
		}
		if d := decide(t, c, "web", db); !d.Allowed() {
			t.Errorf("web -> db: got %+v, want allow", d)
		}
		if d := decide(t, c, "db", web); d.Allowed() || d.Reason != intentions.ReasonDefaultAction {
			t.Errorf("db -> web: got %+v, want the default denial", d)
		}
		if got := c.Default(); got.Allow || got.Origin != intentions.OriginConfig {
			t.Errorf("got default action %+v", got)
		}
		pass(24*time.Hour + 299*time.Second)
		if s, _ := c.Snapshot(db); s.Age(time.Now()) > time.Minute {
			t.Errorf("got age %s after a day, want a minute at most", s.Age(time.Now()))
		}
	})
}

func TestLeavesAreRenewedAtSixtyPercent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, Config{LeafLifetime: MinLeafLifetime})
		c := runCache(t, a, web)
		first, _ := c.Snapshot(web)
		due := first.Leaf.Leaf.At(0.6)
		pass(time.Until(due) - time.Millisecond)
		if same, _ := c.Snapshot(web); same.Leaf != first.Leaf {
			t.Fatalf("leaf was renewed before %s", due)
		}
		pass(time.Millisecond)
		second, _ := c.Snapshot(web)
		if second.Leaf == first.Leaf {
			t.Fatal("leaf was not renewed at 60 %")
		}
		pass(time.Hour)
		if last, _ := c.Snapshot(web); last.Leaf.Error != "" || last.Leaf.Leaf.Expired(time.Now()) {
			t.Errorf("leaf is not usable after an hour: %q", last.Leaf.Error)
		}
	})
}

func TestRotateKeepsTheOldRootForTwiceALeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, Config{LeafLifetime: time.Hour})
		c := runCache(t, a, web)
		before, _ := c.Snapshot(web)
		if err := a.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		after, _ := c.Snapshot(web)
		if after.Bundle.Bundle.ActiveRootID == before.Bundle.Bundle.ActiveRootID || len(after.Bundle.Bundle.Roots) != 2 {
			t.Fatalf("got %d roots, want a new one and the old one", len(after.Bundle.Bundle.Roots))
		}
		leaf := after.Leaf.Leaf
		if !leaf.SignedBy(after.Bundle.Bundle.Active()) {
			t.Error("the active root did not sign the leaf")
		}
		if err := leaf.Verify(before.Bundle.Bundle, time.Now()); err != nil {
			t.Errorf("a peer with the old bundle refuses the new leaf: %v", err)
		}
		if got := strings.Count(leaf.CertPEM, "BEGIN CERTIFICATE"); got != 2 {
			t.Errorf("got a chain of %d certificates, want 2", got)
		}
		if got := after.Bundle.Bundle.Active().IntermediatesPEM; len(got) != 1 || !strings.HasSuffix(leaf.CertPEM, got[0]) {
			t.Error("the chain does not end with the active root's intermediate")
		}
		pass(2*time.Hour + time.Minute)
		if s, _ := c.Snapshot(web); len(s.Bundle.Bundle.Roots) != 1 {
			t.Errorf("got %d roots after twice the lifetime of a leaf, want 1", len(s.Bundle.Bundle.Roots))
		}
	})
}

func TestRotateDoesNothingOnceTheContextEnded(t *testing.T) {
	a := newAuthority(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Rotate(ctx); err == nil || len(a.current().bundle.Roots) != 1 {
		t.Errorf("got %v and %d roots", err, len(a.current().bundle.Roots))
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryIsReadAgainWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "db.hcl", webToDB)
	write(t, dir, ".db.hcl.swp", "not content")
	write(t, dir, "README", "not content")
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, Config{Dir: dir})
		c := runCache(t, a, db)
		look := func() {
			t.Helper()
			pass(lookEvery)
		}
		expect := func(source string, allowed bool) {
			t.Helper()
			if got := decide(t, c, source, db).Allowed(); got != allowed {
				t.Errorf("%s -> db: got %v, want %v", source, got, allowed)
			}
		}
		expect("web", true)

		write(t, dir, "db.hcl", strings.Replace(webToDB, "allow", "deny!", 1))
		look()
		expect("web", true)
		if f := c.Cause(db); f == nil || !strings.Contains(f.Message, filepath.Join(dir, "db.hcl")+":1: ") {
			t.Errorf("got condition %v, want the broken file with its line", f)
		}

		write(t, dir, "db.hcl", strings.Replace(webToDB, "allow", "deny", 1))
		write(t, dir, "api.json", `{"service": {"name": "api", "port": 1, "connect": {"native": true}}}`)
		look()
		expect("web", false)
		if f := c.Cause(db); f != nil {
			t.Errorf("got condition %v after recovery", f)
		}
		if s, _ := c.Snapshot(intentions.NewService("api")); s == nil || !s.Ready() {
			t.Error("the new service is not watched")
		}

		if err := os.Remove(filepath.Join(dir, "api.json")); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "db.hcl", strings.Replace(webToDB, "web", "api", 1))
		look()
		expect("api", true)
		if s, _ := c.Snapshot(intentions.NewService("api")); s != nil {
			t.Error("the removed service is still watched")
		}
		if err := a.Replace(nil); err == nil {
			t.Error("Replace worked beside a directory")
		}
	})
}

func TestDirectoryThatComesBackClearsTheCondition(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := runCache(t, newAuthority(t, Config{Dir: dir}), db)
		for _, step := range []struct {
			from, to string
			fails    bool
		}{{dir, dir + "-away", true}, {dir + "-away", dir, false}} {
			if err := os.Rename(step.from, step.to); err != nil {
				t.Fatal(err)
			}
			pass(lookEvery)
			if got := c.Cause(db); (got != nil) != step.fails {
				t.Errorf("got condition %v, want failing %v", got, step.fails)
			}
		}
	})
}

func TestReplaceKeepsIndexesOfWhatDidNotChange(t *testing.T) {
	a := newAuthority(t, Config{Intentions: map[string]string{"db": webToDB}})
	rows := func() (out []struct{ CreateIndex, ModifyIndex uint64 }) {
		raw, err := a.current().content.rows(intentions.NewService("DB"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	replace := func(text string) {
		if err := a.Replace(map[string]string{"db": text}); err != nil {
			t.Fatal(err)
		}
	}
	first := rows()
	replace(webToDB)
	if second := rows(); second[0] != first[0] {
		t.Errorf("got %+v, want %+v", second, first)
	}
	replace(strings.Replace(webToDB, "allow", "deny", 1))
	third := rows()
	if third[0].CreateIndex != first[0].CreateIndex || third[0].ModifyIndex <= first[0].ModifyIndex {
		t.Errorf("got %+v after a change of %+v", third, first)
	}
	if err := a.Replace(map[string]string{"db": "Kind = 1"}); err == nil {
		t.Error("broken content was accepted")
	}
	if got := rows(); got[0] != third[0] {
		t.Errorf("broken content changed %+v to %+v", third, got)
	}
}
