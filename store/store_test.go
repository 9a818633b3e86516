package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

type batch = map[string]map[string][]byte

func privateTempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustOpen(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// filled makes a store with a few records and closes it.
func filled(t testing.TB) (dir string) {
	t.Helper()
	dir = privateTempDir(t)
	s := mustOpen(t, dir)
	if err := s.Commit(batch{"leaf": {"web": []byte("web's key"), "db": []byte("db's key.")}, "meta": {"index": []byte("7")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// change edits the file of a closed store as only bbolt sees it.
func change(t testing.TB, dir string, edit func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(edit); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func mode(t testing.TB, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestOpenCreates(t *testing.T) {
	dir := filepath.Join(privateTempDir(t), "a", "b")
	s := mustOpen(t, dir)
	if got := mode(t, dir); got != 0o700 {
		t.Errorf("got directory mode %04o, want 0700", got)
	}
	if got := mode(t, s.Path()); got != 0o600 {
		t.Errorf("got file mode %04o, want 0600", got)
	}
	got, err := s.Load()
	if err != nil || len(got) != 0 {
		t.Errorf("got %v, %v from a new store, want nothing", got, err)
	}
}

func TestOpenRefusesAnOpenDirectory(t *testing.T) {
	for _, m := range []fs.FileMode{0o750, 0o705, 0o701, 0o777, 0o720} {
		dir := privateTempDir(t)
		if err := os.Chmod(dir, m); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		if err == nil || !strings.Contains(err.Error(), "chmod 0700 "+dir) {
			t.Errorf("%04o: got %v, want an error that says what to do", m, err)
		}
		if list, _ := os.ReadDir(dir); len(list) > 0 {
			t.Errorf("%04o: a refused directory was written to", m)
		}
	}
}

func TestOpenRefusesAnOpenFile(t *testing.T) {
	dir := filled(t)
	if err := os.Chmod(filepath.Join(dir, fileName), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}

func TestOpenWhereThereIsNoDirectory(t *testing.T) {
	path := filepath.Join(privateTempDir(t), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestOpenLocked(t *testing.T) {
	dir := filled(t)
	s := mustOpen(t, dir)
	began := time.Now()
	_, err := Open(dir)
	if !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
	if got := time.Since(began); got > 3*lockWait {
		t.Errorf("the refusal took %v, want about %v", got, lockWait)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir)
}

func TestNewerFormatIsLeftUntouched(t *testing.T) {
	dir := filled(t)
	change(t, dir, func(tx *bbolt.Tx) error {
		return tx.Bucket(headerBucket).Put(formatKey, binary.BigEndian.AppendUint32(nil, format+1))
	})
	leftUntouched(t, dir, func() error {
		_, err := Open(dir)
		return err
	}, ErrNewerFormat)
}

func TestNewerRecordIsLeftUntouched(t *testing.T) {
	dir := filled(t)
	change(t, dir, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("leaf")).Put([]byte("web"), append([]byte{recordPlain + 1}, make([]byte, 40)...))
	})
	leftUntouched(t, dir, func() error {
		s, err := Open(dir)
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.Load()
		return err
	}, ErrNewerFormat)
}

func leftUntouched(t *testing.T, dir string, open func() error, want error) {
	t.Helper()
	path := filepath.Join(dir, fileName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed, or %v", err)
	}
}

func TestFilesThatAreNoStore(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(filled(t), fileName))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		content []byte
	}{
		{"one-byte", []byte("x")},
		{"text", bytes.Repeat([]byte("not a store "), 20)},
		{"zeros", make([]byte, 64<<10)},
		{"noise", bytes.Repeat([]byte{0xed, 0xda, 0x0c, 0xed}, 16<<10)},
		{"first-page", whole[:4096]},
		{"half-a-page", whole[:2048]},
		{"meta-pages-wiped", append(make([]byte, 8192), whole[8192:]...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateTempDir(t)
			path := filepath.Join(dir, fileName)
			if err := os.WriteFile(path, tt.content, 0o600); err != nil {
				t.Fatal(err)
			}
			leftUntouched(t, dir, func() error {
				_, err := Open(dir)
				return err
			}, ErrDamaged)
		})
	}
}

func TestAnothersBoltFile(t *testing.T) {
	dir := privateTempDir(t)
	change(t, dir, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("someone"))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	})
	leftUntouched(t, dir, func() error {
		_, err := Open(dir)
		return err
	}, ErrDamaged)
}

func TestDamagedFormatRecord(t *testing.T) {
	dir := filled(t)
	change(t, dir, func(tx *bbolt.Tx) error { return tx.Bucket(headerBucket).Put(formatKey, []byte{1}) })
	if _, err := Open(dir); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want %v", err, ErrDamaged)
	}
}

// TestDamageIsFound flips every bit of a record, cuts it and lengthens it.
func TestDamageIsFound(t *testing.T) {
	whole := seal("leaf", "web", []byte("web's key"))
	var damaged [][]byte
	for i := range whole {
		for bit := range 8 {
			d := bytes.Clone(whole)
			d[i] ^= 1 << bit
			damaged = append(damaged, d)
		}
		damaged = append(damaged, whole[:i])
	}
	damaged = append(damaged, append(bytes.Clone(whole), 0))
	for _, d := range damaged {
		got, err := open("leaf", "web", d)
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) || got != nil {
			t.Errorf("%x: got %q, %v; want an error", d, got, err)
		}
		if len(d) > digestBytes && d[0] == recordPlain && !errors.Is(err, ErrDamaged) {
			t.Errorf("%x: got %v, want %v", d, err, ErrDamaged)
		}
	}
}

// TestDamageInTheFile flips bytes where the file itself holds a value.
func TestDamageInTheFile(t *testing.T) {
	dir := filled(t)
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	value := []byte("web's key")
	at := bytes.LastIndex(whole, value)
	if at < 0 {
		t.Fatal("the value is not in the file")
	}
	for i := range value {
		d := bytes.Clone(whole)
		for at := 0; ; at++ { // Old pages may hold copies.
			n := bytes.Index(d[at:], value)
			if n < 0 {
				break
			}
			at += n
			d[at+i] ^= 0x20
		}
		if err := os.WriteFile(path, d, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, dir)
		if got, err := s.Load(); !errors.Is(err, ErrDamaged) || got != nil {
			t.Errorf("byte %d: got %v, %v; want %v alone", i, got, err, ErrDamaged)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMovedRecordsAreFound(t *testing.T) {
	swap := func(b1, k1, b2, k2 string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			x, y := tx.Bucket([]byte(b1)), tx.Bucket([]byte(b2))
			a, b := bytes.Clone(x.Get([]byte(k1))), bytes.Clone(y.Get([]byte(k2)))
			return errors.Join(x.Put([]byte(k1), b), y.Put([]byte(k2), a))
		}
	}
	tests := []struct {
		name string
		edit func(tx *bbolt.Tx) error
	}{
		{"within-a-bucket", swap("leaf", "web", "leaf", "db")},
		{"between-buckets", swap("leaf", "web", "meta", "index")},
		{"under-another-key", func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("leaf"))
			return b.Put([]byte("evil"), bytes.Clone(b.Get([]byte("web"))))
		}},
		{"a-bucket-for-a-record", func(tx *bbolt.Tx) error {
			_, err := tx.Bucket([]byte("leaf")).CreateBucket([]byte("nested"))
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filled(t)
			change(t, dir, tt.edit)
			if got, err := mustOpen(t, dir).Load(); !errors.Is(err, ErrDamaged) || got != nil {
				t.Errorf("got %v, %v; want %v alone", got, err, ErrDamaged)
			}
		})
	}
}

// TestPlacesAreToldApart makes sure that no other bucket and key give the same
// digest by sliding the border between them.
func TestPlacesAreToldApart(t *testing.T) {
	record := seal("ab", "c", []byte("v"))
	for _, place := range [][2]string{{"a", "bc"}, {"ab/c", ""}, {"", "ab/c"}, {"ab", "C"}} {
		if _, err := open(place[0], place[1], record); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v: got %v, want %v", place, err, ErrDamaged)
		}
	}
}

func TestCommitIsDurableAndDeletes(t *testing.T) {
	dir := privateTempDir(t)
	s := mustOpen(t, dir)
	for _, b := range []batch{
		{"leaf": {"web": []byte("1"), "db": []byte("1")}, "policy": {"web": []byte("p")}},
		{"leaf": {"web": []byte("2"), "never": nil}},
		{"leaf": {"db": nil}, "empty": {"value": {}}},
		{},
	} {
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := mustOpen(t, dir).Load()
	want := batch{"leaf": {"web": []byte("2")}, "policy": {"web": []byte("p")}, "empty": {"value": {}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestCommitIsAllOrNothing(t *testing.T) {
	s := mustOpen(t, privateTempDir(t))
	err := s.Commit(batch{"a": {"good": []byte("1")}, "b": {strings.Repeat("k", bbolt.MaxKeySize+1): []byte("1")}})
	if err == nil {
		t.Fatal("a key that is too long was accepted")
	}
	if got, err := s.Load(); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v; want nothing of a batch that failed", got, err)
	}
	if err := s.Commit(batch{string(headerBucket): {"format": nil}}); err == nil {
		t.Error("a batch may write over the header")
	}
}

// TestOpenWritesNothing makes sure that looking at a store does not change it.
func TestOpenWritesNothing(t *testing.T) {
	dir := filled(t)
	leftUntouched(t, dir, func() error {
		s, err := Open(dir)
		if err != nil {
			return err
		}
		_, err = s.Load()
		return errors.Join(err, s.Close())
	}, nil)
}

func TestRoundTrip(t *testing.T) {
	name := rapid.StringMatching(`[a-z/*"\\ é]{1,6}`)
	value := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 40), rapid.Just([]byte(nil)), rapid.Just(bytes.Repeat([]byte("x"), 9000)))
	draw := rapid.SliceOfN(rapid.MapOfN(name, rapid.MapOfN(name, value, 0, 5), 0, 4), 1, 5)
	root := privateTempDir(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		want := map[string]map[string][]byte{}
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range draw.Draw(t, "batches") {
			if err := s.Commit(b); err != nil {
				t.Fatal(err)
			}
			for bucket, list := range b {
				if want[bucket] == nil {
					want[bucket] = map[string][]byte{}
				}
				maps.Copy(want[bucket], list)
				maps.DeleteFunc(want[bucket], func(_ string, v []byte) bool { return v == nil })
			}
			if rapid.Bool().Draw(t, "reopen") {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(dir); err != nil {
					t.Fatal(err)
				}
			}
		}
		got, err := s.Load()
		if err != nil || !reflect.DeepEqual(withoutEmpty(got), withoutEmpty(want)) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func withoutEmpty(m map[string]map[string][]byte) map[string]map[string][]byte {
	maps.DeleteFunc(m, func(_ string, list map[string][]byte) bool { return len(list) == 0 })
	return m
}
