package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"
)

const pageSize = 4096

// mutations damage a file in the ways that disks and people do.
var mutations = []struct {
	name   string
	mutate func(r *rand.Rand, whole []byte) []byte
}{
	{"byte", func(r *rand.Rand, b []byte) []byte { b[r.IntN(len(b))] ^= byte(1 + r.IntN(255)); return b }},
	{"bit", func(r *rand.Rand, b []byte) []byte { b[r.IntN(len(b))] ^= 1 << r.IntN(8); return b }},
	{"page-header", func(r *rand.Rand, b []byte) []byte {
		b[r.IntN(len(b)/pageSize)*pageSize+r.IntN(16)] ^= byte(1 + r.IntN(255))
		return b
	}},
	{"page-element", func(r *rand.Rand, b []byte) []byte {
		b[r.IntN(len(b)/pageSize)*pageSize+16+r.IntN(128)] ^= byte(1 + r.IntN(255))
		return b
	}},
	{"page-zeroed", func(r *rand.Rand, b []byte) []byte { clear(page(b, r.IntN(len(b)/pageSize))); return b }},
	{"sector-noise", func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b)/512) * 512
		for i := range 512 {
			b[at+i] = byte(r.Uint32())
		}
		return b
	}},
	{"pages-swapped", func(r *rand.Rand, b []byte) []byte {
		x, y := page(b, r.IntN(len(b)/pageSize)), page(b, r.IntN(len(b)/pageSize))
		z := bytes.Clone(x)
		copy(x, y)
		copy(y, z)
		return b
	}},
	{"page-doubled", func(r *rand.Rand, b []byte) []byte {
		copy(page(b, r.IntN(len(b)/pageSize)), page(b, r.IntN(len(b)/pageSize)))
		return b
	}},
	{"truncated", func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b))] }},
	{"truncated-at-a-page", func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b)/pageSize)*pageSize] }},
	{"extended", func(r *rand.Rand, b []byte) []byte { return append(b, make([]byte, 1+r.IntN(100000))...) }},
	{"newest-meta", func(_ *rand.Rand, b []byte) []byte { clear(page(b, newestMeta(b))[16:80]); return b }},
	{"both-metas", func(r *rand.Rand, b []byte) []byte {
		page(b, 0)[16+r.IntN(64)] ^= 0xff
		page(b, 1)[16+r.IntN(64)] ^= 0xff
		return b
	}},
	{"foreign", func(r *rand.Rand, b []byte) []byte {
		foreign := make([]byte, r.IntN(100000))
		for i := range foreign {
			foreign[i] = byte(r.Uint32())
		}
		return foreign
	}},
	{"empty", func(*rand.Rand, []byte) []byte { return nil }},
}

func page(b []byte, n int) []byte { return b[n*pageSize : (n+1)*pageSize] }

// newestMeta is the meta page with the larger transaction, as bbolt places it.
func newestMeta(b []byte) int {
	const txid = 16 + 48
	if bytes.Compare(reversed(page(b, 0)[txid:txid+8]), reversed(page(b, 1)[txid:txid+8])) > 0 {
		return 0
	}
	return 1
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[len(b)-1-i] = b[i]
	}
	return out
}

// specimen is a whole store: the file, an older copy, and the key.
type specimen struct {
	file, previous, key      []byte
	batches, previousBatches int
}

func newSpecimen(t testing.TB) specimen {
	t.Helper()
	dir := privateTempDir(t)
	s := mustOpen(t, dir)
	x := specimen{batches: 70, previousBatches: 60}
	for n := 1; n <= x.batches; n++ {
		mustCommit(t, s, batchOf(n))
		if n == x.previousBatches {
			if err := s.Copy(); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, s)
	for name, to := range map[string]*[]byte{fileName: &x.file, previousName: &x.previous, generatedName: &x.key} {
		var err error
		if *to, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// startWithin is how long opening a damaged store may take. A busy machine gets
// a few exceptions: they are its doing.
const startWithin = time.Second

// outcome counts how damaged files were met.
type outcome struct {
	exact, copied, empty int
	slow                 int
	slowest              time.Duration
}

// TestCorruption damages a store in many ways: what is served is exactly what
// was stored, or exactly what the copy holds, or nothing, and the last two
// never silently. Then the store goes on.
func TestCorruption(t *testing.T) {
	x := newSpecimen(t)
	states := map[int]batch{x.batches: stateAt(x.batches), x.previousBatches: stateAt(x.previousBatches)}
	var mu sync.Mutex // guards sum
	var sum outcome
	total := trials(2000, 60)
	workers(t, total, func(t *testing.T, dir string, r *rand.Rand, share int) {
		var o outcome
		for i := range share {
			m := mutations[i%len(mutations)]
			file, previous := m.mutate(r, bytes.Clone(x.file)), x.previous
			if r.IntN(4) == 0 {
				previous = mutations[r.IntN(len(mutations))].mutate(r, bytes.Clone(previous))
			}
			if err := trial(t, dir, x, file, previous, states, &o, r.IntN(4) == 0, m.name == "newest-meta"); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		sum.exact, sum.copied, sum.empty = sum.exact+o.exact, sum.copied+o.copied, sum.empty+o.empty
		sum.slow += o.slow
		sum.slowest = max(sum.slowest, o.slowest)
	})
	t.Logf("%d damaged files of %d kinds: %d whole nevertheless, %d answered from the copy, %d empty starts; "+
		"0 silently wrong, 0 deaths; slowest start %v",
		sum.exact+sum.copied+sum.empty, len(mutations), sum.exact, sum.copied, sum.empty, sum.slowest.Round(time.Millisecond))
	if sum.slow > total/50 && !raceEnabled {
		t.Errorf("%d of %d starts took longer than %v", sum.slow, total, startWithin)
	}
}

func trial(t *testing.T, dir string, x specimen, file, previous []byte, states map[int]batch, o *outcome, goOn, mustBeExact bool) error {
	t.Helper()
	_ = os.RemoveAll(dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string][]byte{fileName: file, previousName: previous, generatedName: x.key} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	s, err := Open(Config{Dir: dir})
	if err != nil {
		return err
	}
	defer s.Close()
	held, _ := s.Load()
	opening := s.Opening()
	o.slowest = max(o.slowest, opening.Took)
	if opening.Took > startWithin {
		o.slow++
	}
	switch {
	case s.Problem() != nil:
		return fmt.Errorf("damage was taken for something else: %w", s.Problem())
	case opening.From == fileName && len(opening.SetAside) == 0 && reflect.DeepEqual(withoutEmpty(held), states[x.batches]):
		o.exact++
	case mustBeExact:
		return fmt.Errorf("a settled record did not survive: %+v", opening)
	case opening.From == previousName && len(opening.SetAside) == 1 && reflect.DeepEqual(withoutEmpty(held), states[x.previousBatches]):
		o.copied++
	case opening.From == "" && len(opening.SetAside) == 2 && len(held) == 0:
		o.empty++
	default:
		return fmt.Errorf("got %d records from %+v, which are not what was stored", count(held), opening)
	}
	if !goOn {
		return nil
	}
	return carryOn(s, held)
}

// carryOn writes into a store that came up from a damaged file, and reads it
// back: what was not noticed at the start must not come up later.
func carryOn(s *Store, held batch) error {
	for n := range 3 {
		b := batchOf(1000 + n)
		if err := s.Commit(b); err != nil {
			return err
		}
		held = overlay(held, b)
	}
	if err := s.Settle(); err != nil {
		return err
	}
	_ = s.Close()
	again, err := Open(Config{Dir: s.dir.path})
	if err != nil {
		return err
	}
	defer again.Close()
	got, _ := again.Load()
	if again.Opening().From != fileName || !reflect.DeepEqual(withoutEmpty(got), withoutEmpty(held)) {
		return fmt.Errorf("what was written afterwards is not there: %+v", again.Opening())
	}
	return nil
}
