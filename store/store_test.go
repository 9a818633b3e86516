package store

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

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
	return mustOpenWith(t, Config{Dir: dir})
}

func mustOpenWith(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// inClear is a store whose records tests can edit.
func inClear(dir string) Config { return Config{Dir: dir, Key: KeySource{Off: true}} }

func mustCommit(t testing.TB, s *Store, b batch) {
	t.Helper()
	if err := errors.Join(s.Commit(b), s.Settle()); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// load returns what a store was opened with.
func load(t testing.TB, s *Store) batch {
	t.Helper()
	got, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// someRecords are what filled holds.
var someRecords = batch{"leaf": {"web": []byte("web's key"), "db": []byte("db's key.")}, "meta": {"index": []byte("7")}}

// filled makes a store with a few records and closes it.
func filled(t testing.TB) (dir string) {
	t.Helper()
	dir = privateTempDir(t)
	fill(t, Config{Dir: dir})
	return dir
}

func fill(t testing.TB, c Config) {
	t.Helper()
	s := mustOpenWith(t, c)
	mustCommit(t, s, someRecords)
	mustClose(t, s)
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
	if got := load(t, s); len(got) != 0 {
		t.Errorf("got %v from a new store, want nothing", got)
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("opening wrote %v", list)
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, fileName: 0o600, generatedName: 0o600} {
		if got := mode(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: got mode %04o, want %04o", name, got, want)
		}
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("got %v, want the file and its key", list)
	}
}

func TestOpenRefusesAnOpenDirectory(t *testing.T) {
	for _, m := range []fs.FileMode{0o750, 0o705, 0o701, 0o777, 0o720} {
		dir := privateTempDir(t)
		if err := os.Chmod(dir, m); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Config{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), "chmod 0700 "+dir) {
			t.Errorf("%04o: got %v, want an error that says what to do", m, err)
		}
		if list, _ := os.ReadDir(dir); len(list) > 0 {
			t.Errorf("%04o: a refused directory was written to", m)
		}
	}
}

func TestOpenMakesTheFilePrivate(t *testing.T) {
	dir := filled(t)
	if err := os.Chmod(filepath.Join(dir, fileName), 0o640); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir)
	if got := mode(t, s.Path()); got != 0o600 {
		t.Errorf("got mode %04o, want 0600", got)
	}
}

func TestOpenWhereThereIsNoDirectory(t *testing.T) {
	path := filepath.Join(privateTempDir(t), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: path}); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestOpenLocked(t *testing.T) {
	dir := filled(t)
	s := mustOpen(t, dir)
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
	if _, err := Verify(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("verify: got %v, want %v", err, ErrLocked)
	}
	mustClose(t, s)
	mustOpen(t, dir)
}

// TestOpenLockedByAnOlderVersion holds the lock that older versions take.
func TestOpenLockedByAnOlderVersion(t *testing.T) {
	dir := filled(t)
	db, err := bbolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
}

// leftUntouched opens a store and makes sure that its file stays as it is.
func leftUntouched(t *testing.T, c Config, want error) *Store {
	t.Helper()
	path := filepath.Join(c.Dir, fileName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpenWith(t, c)
	if got := s.Problem(); !errors.Is(got, want) {
		t.Errorf("got problem %v, want %v", got, want)
	}
	if want != nil {
		if got := load(t, s); len(got) != 0 {
			t.Errorf("got %v of a file that was not accepted", got)
		}
		if got := errors.Join(s.Commit(batch{"a": {"k": []byte("v")}})); !errors.Is(got, want) {
			t.Errorf("commit: got %v, want %v", got, want)
		}
		if got := s.Settle(); !errors.Is(got, want) {
			t.Errorf("settle: got %v, want %v", got, want)
		}
	}
	mustClose(t, s)
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed, or %v", err)
	}
	return s
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
	mustClose(t, s)
	got, err := mustOpen(t, dir).Load()
	want := batch{"leaf": {"web": []byte("2")}, "policy": {"web": []byte("p")}, "empty": {"value": {}}}
	if err != nil || !reflect.DeepEqual(withoutEmpty(got), want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestCommitIsAllOrNothing(t *testing.T) {
	s := mustOpen(t, privateTempDir(t))
	err := s.Commit(batch{"a": {"good": []byte("1")}, "b": {strings.Repeat("k", bbolt.MaxKeySize+1): []byte("1")}})
	if err == nil {
		t.Fatal("a key that is too long was accepted")
	}
	for _, b := range []batch{
		{string(headerBucket): {"format": nil}}, {"": {"k": []byte("v")}}, {"b": {"": []byte("v")}},
	} {
		if err := s.Commit(b); err == nil {
			t.Errorf("%v was accepted", b)
		}
	}
	mustCommit(t, s, batch{"c": {"k": []byte("v")}})
	mustClose(t, s)
	if got := load(t, mustOpen(t, s.dir.path)); len(got) != 1 {
		t.Errorf("got %v; want nothing of a batch that failed", got)
	}
}

// TestOpenWritesNothing makes sure that looking at a store does not change it.
func TestOpenWritesNothing(t *testing.T) {
	dir := filled(t)
	leftUntouched(t, Config{Dir: dir}, nil)
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
		s, err := Open(Config{Dir: dir})
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
				if s, err = Open(Config{Dir: dir}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(Config{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := s.Load()
		if err != nil || !reflect.DeepEqual(withoutEmpty(got), withoutEmpty(want)) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
	})
}

func withoutEmpty(m map[string]map[string][]byte) map[string]map[string][]byte {
	maps.DeleteFunc(m, func(_ string, list map[string][]byte) bool { return len(list) == 0 })
	return m
}
