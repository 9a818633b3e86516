package cache

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/connectd/connectd/intentions"
)

// player plays random updates and looks at every snapshot after each.
type player struct {
	*world
	signers []*signer
	seen    map[string]uint64
	overall uint64
	problem string
}

var playerServices = []string{"db", "web"}

// move is one drawn update.
type move struct{ Kind, A, B int }

func drawMoves(t *rapid.T) []move {
	one := rapid.Custom(func(t *rapid.T) move {
		return move{rapid.IntRange(0, 9).Draw(t, "kind"), rapid.IntRange(0, 5).Draw(t, "a"), rapid.IntRange(0, 5).Draw(t, "b")}
	})
	return rapid.SliceOfN(one, 1, 40).Draw(t, "moves")
}

// update makes the update of one move.
func (p *player) update(m move) Update {
	name := playerServices[m.B%len(playerServices)]
	s := p.signers[m.A%len(p.signers)]
	switch m.Kind {
	case 0:
		return Update{Bundle: bundleOf(p.t, testDomain, s)}
	case 1, 2:
		other := p.signers[m.B%3]
		if first := p.signers[m.A%3]; other != first {
			return Update{Bundle: bundleOf(p.t, testDomain, first, other)}
		}
		return Update{Bundle: bundleOf(p.t, testDomain, other)}
	case 3, 4, 5:
		life := []time.Duration{time.Second, time.Hour, 72 * time.Hour}[m.B%3]
		return Update{Leaf: s.leaf(p.t, name, life)}
	case 6:
		rule := []string{"api allow", "api deny", "* allow"}[m.A%3]
		return Update{Intentions: rowsFor(name, rule)}
	case 7:
		return Update{Default: &intentions.DefaultAction{Allow: m.A%2 == 0, Origin: intentions.OriginAgent}}
	case 8:
		foreign := newSigner(p.t, "foreign")
		return Update{Bundle: bundleOf(p.t, "99999999-2222-3333-4444-555555555555.consul", foreign)}
	}
	// Everything at once, as after a rotation.
	return Update{
		Bundle: bundleOf(p.t, testDomain, p.signers[m.A%3]), Leaf: p.signers[m.A%3].leaf(p.t, name, time.Hour),
		Intentions: rowsFor(name, "api allow"),
	}
}

// look notes the first rule that a reader could see broken.
func (p *player) look(after move) {
	if p.problem != "" {
		return
	}
	index := p.c.Index()
	if index < p.overall {
		p.problem = fmt.Sprintf("after %v: the index went from %d to %d", after, p.overall, index)
	}
	p.overall = index
	for _, name := range playerServices {
		s := p.snapshot(name)
		if problem := broken(s); problem != "" {
			p.problem = fmt.Sprintf("after %v: %s: %s", after, name, problem)
		}
		if s.Index < p.seen[name] || s.Index > index {
			p.problem = fmt.Sprintf("after %v: %s: index %d, before %d, overall %d", after, name, s.Index, p.seen[name], index)
		}
		p.seen[name] = s.Index
	}
}

// broken says what is wrong with one snapshot.
func broken(s *Snapshot) string {
	var largest uint64
	if s.Bundle != nil {
		largest = s.Bundle.Index
	}
	if s.Policy != nil {
		largest = max(largest, s.Policy.Index)
		if s.Bundle == nil || s.Policy.Table.Policy().TrustDomain != s.Bundle.Bundle.TrustDomain {
			return "the policy is not of the bundle's trust domain"
		}
	}
	if s.Leaf != nil {
		largest = max(largest, s.Leaf.Index)
		if s.Bundle == nil {
			return "a leaf without a bundle"
		}
		err := s.Leaf.Leaf.Verify(s.Bundle.Bundle, time.Now())
		if err != nil && s.Leaf.Error == "" {
			return "the bundle does not verify the leaf: " + err.Error()
		}
		if err == nil && s.Leaf.Error != "" {
			return "a good leaf is called " + s.Leaf.Error
		}
	}
	if s.Index != largest {
		return fmt.Sprintf("index %d is not the largest of its parts, %d", s.Index, largest)
	}
	return ""
}

func play(t *testing.T, moves []move) (problem string) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		p := &player{world: open(t, store, watching(playerServices...)), seen: map[string]uint64{}}
		one, two, three := newSigner(t, "one"), newSigner(t, "two"), newSigner(t, "three")
		below := one.intermediate(t, "below one")
		p.signers = []*signer{one, two, three, below, one.crossSigned(t, two), below.intermediate(t, "deep below one")}
		for _, m := range moves {
			p.tell(p.update(m))
			p.look(m)
			if m.A == 5 {
				time.Sleep(time.Duration(m.B) * time.Second)
				synctest.Wait()
				p.look(m)
			}
			if m.A == 4 && m.B == 4 {
				p.stop()
				before := maps.Clone(p.seen)
				p.world = open(t, store, watching(playerServices...))
				// A leaf that no bundle verified any more is not restored.
				for name := range before {
					p.seen[name] = 0
				}
				p.look(m)
			}
		}
		problem = p.problem
	})
	return problem
}

// TestSnapshotsAreConsistent plays random interleavings of everything that a
// source can say, with restarts between.
func TestSnapshotsAreConsistent(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		if problem := play(t, drawMoves(rt)); problem != "" {
			rt.Fatal(problem)
		}
	})
}

func TestHeldLeafIsAdoptedWithItsBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		two := newSigner(t, "root two")
		early := two.leaf(t, "web", time.Hour)
		before, changed := w.c.Snapshot(intentions.NewService("web"))
		w.tell(Update{Leaf: early})
		if w.snapshot("web") != before || isClosed(changed) {
			t.Fatal("a leaf was published before its bundle")
		}
		w.tell(Update{Bundle: bundleOf(t, testDomain, two, w.root)})
		if got := w.snapshot("web").Leaf.Leaf; got != early {
			t.Errorf("got leaf %s, want the held one %s", got.SerialNumber, early.SerialNumber)
		}
	})
}

func TestHeldLeafGivesWayToANewerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		two := newSigner(t, "root two")
		w.tell(Update{Leaf: two.leaf(t, "web", time.Hour)})
		newer := w.root.leaf(t, "web", 2*time.Hour)
		w.tell(Update{Leaf: newer})
		w.tell(Update{Bundle: bundleOf(t, testDomain, two, w.root)})
		if got := w.snapshot("web").Leaf.Leaf; got != newer {
			t.Errorf("got leaf %s, want the one that came last, %s", got.SerialNumber, newer.SerialNumber)
		}
	})
}

func TestLeafBeforeAnyBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		root := newSigner(t, "root")
		w.tell(Update{Leaf: root.leaf(t, "web", time.Hour), Intentions: rowsFor("web", "api allow")})
		if s := w.snapshot("web"); s.Leaf != nil || s.Policy != nil || s.Ready() {
			t.Fatal("parts were published without a bundle")
		}
		w.tell(Update{Bundle: bundleOf(t, testDomain, root), Default: &intentions.DefaultAction{}})
		if s := w.snapshot("web"); s.Leaf == nil || !s.Ready() {
			t.Error("what came before the bundle is lost")
		}
	})
}

func TestRootRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		two := newSigner(t, "root two")
		w.tell(Update{Bundle: bundleOf(t, testDomain, two, w.root)})
		if got := w.snapshot("web").Leaf.Error; got != "" {
			t.Fatalf("got leaf error %q while its root is there, want none", got)
		}
		w.tell(Update{Bundle: bundleOf(t, testDomain, two)})
		if got := w.snapshot("web").Leaf.Error; got != LeafErrorUntrusted {
			t.Errorf("got leaf error %q, want %q", got, LeafErrorUntrusted)
		}
		if !w.decide("api", "web").Allowed() {
			t.Error("bundle and policy are not usable any more")
		}
		w.tell(Update{Bundle: bundleOf(t, testDomain, two, w.root)})
		if got := w.snapshot("web").Leaf.Error; got != "" {
			t.Errorf("got leaf error %q after the root came back, want none", got)
		}
	})
}

func TestLeafExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web", "db"))
		w.fill("db")
		leaf := w.root.leaf(t, "web", time.Hour)
		w.tell(Update{Leaf: leaf, Intentions: rowsFor("web", "api allow")})
		valid, changed := w.c.Snapshot(intentions.NewService("web"))
		_, other := w.c.Snapshot(intentions.NewService("db"))

		time.Sleep(time.Until(leaf.NotAfter))
		synctest.Wait()
		if isClosed(changed) {
			t.Error("the leaf ended before its last instant was over")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		s := w.snapshot("web")
		if !isClosed(changed) || s.Leaf.Error != LeafErrorExpired || s.Index <= valid.Index {
			t.Errorf("got error %q, want %q under a new index", s.Leaf.Error, LeafErrorExpired)
		}
		if isClosed(other) {
			t.Error("the end of web's leaf woke those who wait for db")
		}
		wants, _ := w.c.Wanted()
		if wants[1].Have != leaf {
			t.Error("the source is not told which leaf there is")
		}
		w.tell(Update{Leaf: w.root.leaf(t, "web", time.Hour)})
		if got := w.snapshot("web").Leaf.Error; got != "" {
			t.Errorf("got error %q after renewal, want none", got)
		}
	})
}

func TestLeafThatAClockCalledExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		w.stop()
		k, s := w.c.keeper, intentions.NewService("web")
		k.expireLeaves(time.Now().Add(100 * time.Hour))
		if got := k.leaves[s].Error; got != LeafErrorExpired {
			t.Fatalf("got error %q at a late time, want %q", got, LeafErrorExpired)
		}
		k.expireLeaves(time.Now())
		if got := k.leaves[s].Error; got != "" {
			t.Errorf("got error %q after the clock was set right, want none", got)
		}
	})
}

func TestLeafThatIsExpiredAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill()
		w.tell(Update{Leaf: w.root.leaf(t, "web", -time.Second)})
		if s := w.snapshot("web"); s.Leaf == nil || s.Leaf.Error != LeafErrorExpired {
			t.Errorf("got %+v, want a leaf that is called expired", s.Leaf)
		}
	})
}

func TestRowsThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, newMemory(), watching("web"))
		w.fill("web")
		bad := map[intentions.Service]json.RawMessage{intentions.NewService("web"): json.RawMessage(`[{"Action":"allow"}]`)}
		began := time.Now()
		for range 10 {
			w.tell(Update{Intentions: bad, Bundle: bundleOf(t, testDomain, w.root)})
			time.Sleep(time.Minute)
		}
		s := w.snapshot("web")
		if !w.decide("api", "web").Allowed() {
			t.Error("the old policy is gone")
		}
		if got, want := s.Age(time.Now()), time.Since(began); got != want {
			t.Errorf("got age %v, want %v: repeating what cannot be read confirms nothing", got, want)
		}
		if f := w.c.conditions.get(WatchIntentions, s.Service); f == nil || f.Kind != FailureInvalid {
			t.Errorf("got condition %v, want %s", f, FailureInvalid)
		}
		w.tell(Update{Default: &intentions.DefaultAction{Allow: true, Origin: intentions.OriginAgent}})
		if got := w.snapshot("web").Policy.Table.Policy().DefaultAction; got != "allow" {
			t.Errorf("got default action %q, want the new one under the old rows", got)
		}
		w.tell(Update{Intentions: rowsFor("web", "api deny")})
		if f := w.c.conditions.get(WatchIntentions, s.Service); f != nil {
			t.Errorf("got condition %v after good rows, want none", f)
		}
	})
}
