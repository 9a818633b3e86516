package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// reheader writes another format into a closed store.
func reheader(t testing.TB, dir string, n uint32) {
	t.Helper()
	change(t, dir, func(tx *bbolt.Tx) error {
		b := tx.Bucket(headerBucket)
		text, err := plain{}.open(string(headerBucket), string(headerKey), b.Get(headerKey))
		if err != nil {
			return err
		}
		var h header
		if err := json.Unmarshal(text, &h); err != nil {
			return err
		}
		h.Format = n
		all, err := h.records()
		if err != nil {
			return err
		}
		return put(tx, string(headerBucket), all[string(headerBucket)])
	})
}

func TestNewerFormatIsLeftUntouched(t *testing.T) {
	dir := filled(t)
	reheader(t, dir, format+1)
	leftUntouched(t, Config{Dir: dir}, ErrNewerFormat)
}

// refill opens a store whose file is damaged: it was set aside, nothing of it
// is served, and the store goes on with a new file.
func refill(t *testing.T, c Config) {
	t.Helper()
	before, err := os.ReadFile(filepath.Join(c.Dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpenWith(t, c)
	if s.Problem() != nil || s.Opening().From != "" || len(s.Opening().SetAside) != 1 {
		t.Fatalf("got problem %v and opening %+v, want an empty store and one file set aside", s.Problem(), s.Opening())
	}
	if got := load(t, s); len(got) != 0 {
		t.Errorf("got %v of a damaged file", got)
	}
	kept, err := os.ReadFile(filepath.Join(c.Dir, s.Opening().SetAside[0]))
	if err != nil || !bytes.Equal(kept, before) {
		t.Errorf("the damaged file was not kept as it was, or %v", err)
	}
	mustCommit(t, s, someRecords)
	mustClose(t, s)
	again := mustOpenWith(t, c)
	if got := load(t, again); !reflect.DeepEqual(got, someRecords) {
		t.Errorf("got %v after the damage, want what was written since", got)
	}
	mustClose(t, again)
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
		{"empty", nil},
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
			if err := os.WriteFile(filepath.Join(dir, fileName), tt.content, 0o600); err != nil {
				t.Fatal(err)
			}
			refill(t, Config{Dir: dir})
		})
	}
}

func TestDamageIsSetAside(t *testing.T) {
	swap := func(b1, k1, b2, k2 string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			x, y := tx.Bucket([]byte(b1)), tx.Bucket([]byte(b2))
			a, b := bytes.Clone(x.Get([]byte(k1))), bytes.Clone(y.Get([]byte(k2)))
			return errors.Join(x.Put([]byte(k1), b), y.Put([]byte(k2), a))
		}
	}
	remove := func(bucket, key string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete([]byte(key)) }
	}
	tests := []struct {
		name string
		edit func(tx *bbolt.Tx) error
	}{
		{"swapped-within-a-bucket", swap("leaf", "web", "leaf", "db")},
		{"swapped-between-buckets", swap("leaf", "web", "meta", "index")},
		{"under-another-key", func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("leaf"))
			return b.Put([]byte("evil"), bytes.Clone(b.Get([]byte("web"))))
		}},
		{"a-bucket-for-a-record", func(tx *bbolt.Tx) error {
			_, err := tx.Bucket([]byte("leaf")).CreateBucket([]byte("nested"))
			return err
		}},
		{"record-removed", remove("leaf", "web")},
		{"all-records-removed", func(tx *bbolt.Tx) error {
			return errors.Join(tx.DeleteBucket([]byte("leaf")), tx.DeleteBucket([]byte("meta")))
		}},
		{"manifest-removed", remove("store", "manifest")},
		{"header-removed", remove("store", "header")},
		{"format-removed", remove("store", "format")},
		{"format-changed", func(tx *bbolt.Tx) error { return tx.Bucket(headerBucket).Put(formatKey, []byte{0, 0, 0, 99}) }},
		{"format-cut", func(tx *bbolt.Tx) error { return tx.Bucket(headerBucket).Put(formatKey, []byte{2}) }},
		{"somebody-else's", func(tx *bbolt.Tx) error {
			if err := tx.DeleteBucket(headerBucket); err != nil {
				return err
			}
			_, err := tx.CreateBucket([]byte("someone"))
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, c := range []Config{{Dir: privateTempDir(t)}, inClear(privateTempDir(t))} {
				fill(t, c)
				change(t, c.Dir, tt.edit)
				refill(t, c)
			}
		})
	}
}

// TestRollbackOfOneRecord puts an older version of a record back, seal and all.
func TestRollbackOfOneRecord(t *testing.T) {
	dir := filled(t)
	var old []byte
	change(t, dir, func(tx *bbolt.Tx) error {
		old = bytes.Clone(tx.Bucket([]byte("leaf")).Get([]byte("web")))
		return nil
	})
	s := mustOpen(t, dir)
	mustCommit(t, s, batch{"leaf": {"web": []byte("newer")}})
	mustClose(t, s)
	change(t, dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("leaf")).Put([]byte("web"), old) })
	refill(t, Config{Dir: dir})
}

func TestDamagedFilesAreKept(t *testing.T) {
	dir := privateTempDir(t)
	for range keepDamaged + 2 {
		if err := os.WriteFile(filepath.Join(dir, fileName), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		mustClose(t, mustOpen(t, dir))
	}
	if list, _ := filepath.Glob(filepath.Join(dir, damagedPattern)); len(list) != keepDamaged {
		t.Errorf("got %v, want the last %d", list, keepDamaged)
	}
}

// TestFallsBackToTheCopy damages the file: what the copy holds is served, and
// a new file is made of it.
func TestFallsBackToTheCopy(t *testing.T) {
	dir := privateTempDir(t)
	s := mustOpen(t, dir)
	mustCommit(t, s, someRecords)
	if err := s.Copy(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, batch{"leaf": {"web": []byte("after the copy")}})
	mustClose(t, s)
	if err := os.Truncate(filepath.Join(dir, fileName), 9000); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	if got := s.Opening(); got.From != previousName || len(got.SetAside) != 1 {
		t.Errorf("got %+v, want the copy", got)
	}
	if got := load(t, s); !reflect.DeepEqual(got, someRecords) {
		t.Errorf("got %v, want what the copy holds", got)
	}
	mustCommit(t, s, batch{"leaf": {"web": []byte("later")}})
	mustClose(t, s)
	s = mustOpen(t, dir)
	if got := load(t, s); s.Opening().From != fileName || string(got["leaf"]["web"]) != "later" || string(got["leaf"]["db"]) != "db's key." {
		t.Errorf("got %v from %+v", got, s.Opening())
	}
}

// TestFormat1 opens a file of the first format as it was released into the
// tree: plain records, no manifest.
func TestFormat1(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "format1.db"))
	if err != nil {
		t.Fatal(err)
	}
	want := batch{
		"meta":   {"index": []byte("1790000000042"), "bundle": []byte(`{"TrustDomain":"golden.consul"}`)},
		"leaf":   {"default/default/web": []byte("leaf of web")},
		"policy": {"default/default/web": []byte("policy of web"), "default/default/empty": {}},
	}
	for _, c := range []Config{{Dir: privateTempDir(t)}, inClear(privateTempDir(t))} {
		path := filepath.Join(c.Dir, fileName)
		if err := os.WriteFile(path, golden, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpenWith(t, c)
		if got := load(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if err := s.Settle(); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		found, err := Verify(c)
		if err != nil || len(found) != 1 || found[0].Err != nil || found[0].Format != format || found[0].Sealed == c.Key.Off {
			t.Errorf("got %+v, %v; want a file of format %d", found, err, format)
		}
		if got := load(t, mustOpenWith(t, c)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v after the migration, want %v", got, want)
		}
		raw, _ := os.ReadFile(path)
		if got := bytes.Contains(raw, []byte("leaf of web")); got != c.Key.Off {
			t.Errorf("encryption off %t: a value is in clear: %t", c.Key.Off, got)
		}
	}
}

// TestPlainFileInPlaceOfASealedOne replaces a sealed store by a forged one,
// which anyone who writes the disk can make.
func TestPlainFileInPlaceOfASealedOne(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "format1.db"))
	if err != nil {
		t.Fatal(err)
	}
	forged := privateTempDir(t)
	fill(t, inClear(forged))
	current, err := os.ReadFile(filepath.Join(forged, fileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{golden, current} {
		dir := filled(t)
		if err := os.WriteFile(filepath.Join(dir, fileName), content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := leftUntouched(t, Config{Dir: dir}, ErrKey)
		if !strings.Contains(s.Problem().Error(), "store rekey") {
			t.Errorf("got %v, want what to do", s.Problem())
		}
	}
}
