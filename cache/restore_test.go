package cache

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
)

func TestRestoreEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.source.discover = func(_ context.Context, _ Lookup, have *Discovered) (*Discovered, error) {
			if have != nil {
				time.Sleep(time.Minute)
			}
			return &Discovered{Body: json.RawMessage(`[1]`), Instances: []Instance{{ID: "db-1", Port: 5432}}, UpstreamIndex: 7}, nil
		}
		w.fill("web")
		w.tell(Update{
			Default: &intentions.DefaultAction{Allow: true, Origin: intentions.OriginAgent},
			Local:   []LocalService{{Service: intentions.NewService("local"), ID: "local-1", Address: "10.0.0.1", Port: 80}},
		})
		if err := w.c.Ask(w.ctx, 1, intentions.NewService("asked"), false); err != nil {
			t.Fatal(err)
		}
		lookup := Lookup{Service: intentions.NewService("db"), Mesh: true, Passing: true}
		view, err := w.c.Discover(w.ctx, lookup)
		if err != nil {
			t.Fatal(err)
		}
		before, index := w.snapshot("web"), w.c.Index()
		w.stop()

		again := open(t, store, watching("web"))
		after := again.snapshot("web")
		if after.Leaf.Leaf.CertPEM != before.Leaf.Leaf.CertPEM ||
			after.Leaf.Leaf.KeyPEM.Reveal() != before.Leaf.Leaf.KeyPEM.Reveal() || after.Leaf.Index != before.Leaf.Index {
			t.Error("the leaf is not the same")
		}
		if !after.Bundle.Bundle.Equal(before.Bundle.Bundle) || after.Bundle.Index != before.Bundle.Index {
			t.Error("the bundle is not the same")
		}
		if !reflect.DeepEqual(after.Policy.Table.Policy(), before.Policy.Table.Policy()) || after.Policy.Index != before.Policy.Index {
			t.Errorf("got policy %+v, want %+v", after.Policy.Table.Policy(), before.Policy.Table.Policy())
		}
		if got, want := again.c.Default(), (intentions.DefaultAction{Allow: true, Origin: intentions.OriginAgent}); got != want {
			t.Errorf("got default %+v, want %+v", got, want)
		}
		if got := again.c.Index(); got <= index {
			t.Errorf("got index %d, want more than %d", got, index)
		}
		if got := again.c.Status().Local; len(got) != 1 || got[0].Port != 80 {
			t.Errorf("got local services %+v, want the one", got)
		}
		wants, _ := again.c.Wanted()
		var names []string
		for _, x := range wants {
			names = append(names, x.Service.Name)
			if x.Leaf != (x.Service.Name != "asked") {
				t.Errorf("%s: got leaf wanted %v", x.Service.Name, x.Leaf)
			}
		}
		if got := strings.Join(names, " "); got != "asked local web" {
			t.Errorf("got wanted %q, want asked, local and web", got)
		}
		again.source.discover = func(context.Context, Lookup, *Discovered) (*Discovered, error) {
			return nil, errors.New("away")
		}
		got, err := again.c.Discover(again.ctx, lookup)
		if err != nil || got.Part.Index != view.Part.Index || len(got.Part.Instances) != 1 || got.Part.Instances[0].Port != 5432 {
			t.Errorf("got discovery %+v, %v; want the stored one", got.Part, err)
		}
	})
}

// spoil opens a store in which one record was replaced.
func spoil(t *testing.T, bucket, key, value string) *world {
	t.Helper()
	w := open(t, newMemory(), watching("web", "db"))
	w.fill("web", "db")
	w.stop()
	if w.store.record(bucket, key) == nil {
		t.Fatalf("there is no record %s/%s", bucket, key)
	}
	w.store.held[bucket][key] = []byte(value)
	return open(t, w.store, watching("web", "db"))
}

func TestRestoreSkipsWhatIsUnusable(t *testing.T) {
	const web = "default/default/web"
	tests := []struct {
		name, bucket, key, value  string
		bundle, leaf, policy, log bool
	}{
		{"leaf-no-json", bucketLeaf, web, `{`, true, false, true, true},
		{"leaf-no-certificate", bucketLeaf, web, `{"CertPEM":"x","KeyPEM":"y"}`, true, false, true, true},
		{"policy-no-json", bucketPolicy, web, `"`, true, true, false, true},
		{"policy-bad-rows", bucketPolicy, web, `{"Service":{"partition":"default","namespace":"default","name":"web"},"Rows":[{}]}`, true, true, false, true},
		{"policy-no-rows", bucketPolicy, web, `{"Service":{"partition":"default","namespace":"default","name":"web"}}`, true, true, false, true},
		{"policy-of-db", bucketPolicy, web, `{"Service":{"partition":"default","namespace":"default","name":"db"},"Rows":[]}`, true, true, false, true},
		{"bundle-no-json", bucketMeta, keyBundle, `[]`, false, false, false, true},
		{"bundle-no-roots", bucketMeta, keyBundle, `{"TrustDomain":"x.consul"}`, false, false, false, true},
		{"default-no-json", bucketMeta, keyDefault, `1`, true, true, false, true},
		{"confirmed-no-json", bucketMeta, keyConfirmed, `1`, true, true, true, true},
		{"index-no-json", bucketMeta, keyIndex, `-1`, true, true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := spoil(t, tt.bucket, tt.key, tt.value)
				s := w.snapshot("web")
				if got := s.Bundle != nil; got != tt.bundle {
					t.Errorf("got bundle %v, want %v", got, tt.bundle)
				}
				if got := s.Leaf != nil; got != tt.leaf {
					t.Errorf("got leaf %v, want %v", got, tt.leaf)
				}
				if got := s.Policy != nil; got != tt.policy {
					t.Errorf("got policy %v, want %v", got, tt.policy)
				}
				if !tt.policy && w.decide("api", "web").Outcome != intentions.Deny {
					t.Error("without its policy the service does not deny")
				}
				if got := strings.Contains(w.log.String(), "not usable"); got != tt.log {
					t.Errorf("got a log line %v, want %v:\n%s", got, tt.log, w.log)
				}
				if problem := broken(s); problem != "" {
					t.Error(problem)
				}
				// db is untouched by what is wrong with web.
				if tt.bundle && w.snapshot("db").Leaf == nil {
					t.Error("db lost its leaf too")
				}
			})
		})
	}
}

func TestRestoreFailsWhereTheStoreCannotBeRead(t *testing.T) {
	if _, err := New(Config{Source: &script{}, Store: unreadable{}}); !errors.Is(err, errKilled) {
		t.Errorf("got %v, want the store's error", err)
	}
}

type unreadable struct{ *memory }

func (unreadable) Load() (map[string]map[string][]byte, error) { return nil, errKilled }

// TestRestoreUnderAnotherDefaultAction makes sure that nobody who waits on the
// index of the old policy sleeps on it.
func TestRestoreUnderAnotherDefaultAction(t *testing.T) {
	allow, deny := intentions.DefaultAction{Allow: true, Origin: intentions.OriginConfig}, intentions.DefaultAction{Origin: intentions.OriginConfig}
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"), func(c *Config) { c.Default = &allow })
		w.fill("web")
		if !w.decide("stranger", "web").Allowed() {
			t.Fatal("the configured default action does not apply")
		}
		before := w.snapshot("web")
		w.stop()
		for range 2 {
			again := open(t, store, watching("web"), func(c *Config) { c.Default = &deny })
			after := again.snapshot("web")
			if again.decide("stranger", "web").Allowed() || after.Index == before.Index || after.Policy.Index == before.Policy.Index {
				t.Errorf("got index %d for another default action, want another than %d", after.Index, before.Index)
			}
			again.stop()
			before = after
		}
	})
}

func TestRestoreExpiredLeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		before := w.snapshot("web")
		w.stop()
		time.Sleep(80 * time.Hour)
		again := open(t, w.store, watching("web"))
		if s := again.snapshot("web"); s.Leaf == nil || s.Leaf.Error != LeafErrorExpired || s.Index == before.Index {
			t.Errorf("got %+v, want an expired leaf under another index than %d", s.Leaf, before.Index)
		}
	})
}

func TestRestoreDeletesKeysOfServicesNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory())
		if err := w.c.Ask(w.ctx, 1, intentions.NewService("web"), true); err != nil {
			t.Fatal(err)
		}
		w.fill("web")
		w.stop()
		if w.store.record(bucketLeaf, "default/default/web") == nil {
			t.Fatal("there is no key to begin with")
		}
		time.Sleep(askedFor + time.Hour)
		again := open(t, w.store)
		for _, bucket := range []string{bucketLeaf, bucketPolicy, bucketAsked} {
			if again.store.record(bucket, "default/default/web") != nil {
				t.Errorf("the record in %s is still there", bucket)
			}
		}
		if again.snapshot("web") != nil {
			t.Error("web is still watched")
		}
	})
}

func TestRestoreNeedsNoBundleForMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := spoil(t, bucketMeta, keyBundle, `{}`)
		if w.store.record(bucketLeaf, "default/default/web") == nil {
			t.Error("the key is gone although its service is watched")
		}
		if w.store.record(bucketPolicy, "default/default/web") != nil {
			t.Error("intentions of an unknown trust domain are kept")
		}
	})
}
