package cache

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
)

func TestIndexStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := uint64(time.Now().UnixMilli())
		tests := []struct {
			name   string
			stored string
			want   uint64
		}{
			{"empty-store", "", now},
			{"stored-in-the-past", strconv.FormatUint(now-1000, 10), now},
			{"stored-just-before", strconv.FormatUint(now-1, 10), now},
			{"stored-now", strconv.FormatUint(now, 10), now + 1},
			{"clock-went-back", strconv.FormatUint(now+5000, 10), now + 5001},
			{"unusable", `"x"`, now},
		}
		for _, tt := range tests {
			store := newMemory()
			if tt.stored != "" {
				store.held[bucketMeta] = map[string][]byte{keyIndex: []byte(tt.stored)}
			}
			c, err := New(Config{Source: &script{}, Store: store})
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Index(); got != tt.want {
				t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
			}
			if c.Index() >= 1<<53 {
				t.Errorf("%s: index %d is not below 2^53", tt.name, c.Index())
			}
		}
	})
}

func TestIndexGrowsByOnePerPublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web", "db"))
		start := w.c.Index()
		w.fill("web", "db") // A bundle, and one publication for each service.
		if got, want := w.c.Index(), start+3; got != want {
			t.Errorf("got index %d, want %d", got, want)
		}
		web, db := w.snapshot("web"), w.snapshot("db")
		if web.Bundle.Index != start+1 || web.Policy.Index != start+2 || web.Leaf.Index != start+2 || db.Leaf.Index != start+3 {
			t.Errorf("got parts %d %d %d %d, want each the value of its change",
				web.Bundle.Index-start, web.Policy.Index-start, web.Leaf.Index-start, db.Leaf.Index-start)
		}
		if web.Index != start+2 || db.Index != start+3 {
			t.Errorf("got composites %d and %d, want the largest part", web.Index-start, db.Index-start)
		}

		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		if got := w.snapshot("web"); got.Index != start+4 || got.Leaf.Index != start+2 || got.Bundle.Index != start+1 {
			t.Error("a change of the policy moved the index of another part")
		}
		other := newSigner(t, "root two")
		w.tell(Update{Bundle: bundleOf(t, testDomain, w.root, other)})
		if got := w.snapshot("db"); got.Index != start+5 || got.Policy.Index != start+3 {
			t.Error("a change of the bundle is not the composite's index")
		}
		if got := w.c.Index(); got != start+5 {
			t.Errorf("got index %d, want %d", got, start+5)
		}
	})
}

func TestUnchangedAnswersChangeNoIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		before, index := w.snapshot("web"), w.c.Index()
		again := Update{
			Bundle: bundleOf(t, testDomain, w.root), Leaf: before.Leaf.Leaf, Intentions: rowsFor("web", "api allow"),
			Default:    &intentions.DefaultAction{Origin: intentions.OriginACL},
			Datacenter: "dc1", Node: "n1", Local: []LocalService{},
		}
		w.tell(again)
		tries := store.tries()
		w.tell(again)
		time.Sleep(time.Second)
		synctest.Wait()
		if w.snapshot("web") != before || w.c.Index() != index {
			t.Error("answers that say nothing new made a publication")
		}
		if got := store.tries(); got != tries {
			t.Errorf("answers that say nothing new were committed %d times", got-tries)
		}
		w.stop()

		restarted := open(t, store, watching("web"))
		restored := restarted.snapshot("web")
		restarted.tell(again)
		if got := restarted.snapshot("web"); got != restored || got.Index != before.Index {
			t.Errorf("got index %d after a restart with the same answers, want %d", got.Index, before.Index)
		}
	})
}

func TestIndexAfterRestartDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		w := open(t, store, watching("web"))
		w.fill("web")
		before := w.c.Index()
		w.stop()
		again := open(t, store, watching("web"))
		again.tell(Update{Intentions: rowsFor("web", "api deny")})
		if got := again.snapshot("web").Index; got <= before+1 {
			t.Errorf("got index %d, want more than %d: nobody may sleep on an old allow", got, before+1)
		}
	})
}
