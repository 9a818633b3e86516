package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// TestDirectoryReplaced takes the directory away while the store is open: what
// comes in its place is not written to, and the store goes on when the
// directory is back.
func TestDirectoryReplaced(t *testing.T) {
	replace := []struct {
		name string
		by   func(dir string) error
	}{
		{"removed", func(string) error { return nil }},
		{"another-directory", func(dir string) error { return os.Mkdir(dir, 0o700) }},
		{"a-link-to-another", func(dir string) error {
			other := dir + ".other"
			return errors.Join(os.Mkdir(other, 0o700), os.Symlink(other, dir))
		}},
		{"a-file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }},
	}
	for _, tt := range replace {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(privateTempDir(t), "store")
			s := mustOpen(t, dir)
			mustCommit(t, s, someRecords)
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			if err := tt.by(dir); err != nil {
				t.Fatal(err)
			}
			newer := batch{"meta": {"index": []byte("8")}}
			for what, err := range map[string]error{"commit": s.Commit(newer), "settle": s.Settle(), "copy": s.Copy()} {
				if !errors.Is(err, ErrMoved) {
					t.Errorf("%s: got %v, want %v", what, err, ErrMoved)
				}
			}
			if list, _ := filepath.Glob(dir + "/*"); len(list) > 0 {
				t.Errorf("%v was written into a directory of somebody else", list)
			}
			if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".away", dir)); err != nil {
				t.Fatal(err)
			}
			mustCommit(t, s, newer)
			mustClose(t, s)
			if got := load(t, mustOpen(t, dir)); string(got["meta"]["index"]) != "8" || string(got["leaf"]["web"]) != "web's key" {
				t.Errorf("got %v once the directory was back", got)
			}
		})
	}
}

// TestFileGone removes, replaces or damages the file while the store is open:
// the next commit brings all records back.
func TestFileGone(t *testing.T) {
	dir := privateTempDir(t)
	s := mustOpen(t, dir)
	mustCommit(t, s, someRecords)
	n := 0
	for _, harm := range []func() error{
		func() error { return os.Remove(s.Path()) },
		func() error { return os.WriteFile(s.Path()+".x", []byte("x"), 0o600) },
		func() error { return os.Rename(s.Path()+".x", s.Path()) },
		func() error { return os.Truncate(s.Path(), 0) },
		func() error { return os.Truncate(s.Path(), 5000) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		n++
		newer := batch{"meta": {"index": []byte{byte(n)}}}
		// The first commit may be the one that meets the damage.
		if err := s.Commit(newer); err != nil {
			mustCommit(t, s, newer)
		}
		if err := s.Settle(); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	want := overlay(someRecords, batch{"meta": {"index": []byte{byte(n)}}})
	if got := load(t, mustOpen(t, dir)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestCopiesAreSpaced lets changes come for an hour.
func TestCopiesAreSpaced(t *testing.T) {
	dir := privateTempDir(t)
	copies := 0
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, dir)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		var last os.FileInfo
		for n := range 120 {
			mustCommit(t, s, batchOf(n))
			time.Sleep(30 * time.Second)
			synctest.Wait()
			info, err := os.Stat(s.dir.join(previousName))
			if err == nil && (last == nil || !os.SameFile(info, last)) {
				copies++
				last = info
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		mustClose(t, s)
	})
	if copies < 5 || copies > 7 {
		t.Errorf("got %d copies in an hour of changes, want one every ten minutes", copies)
	}
	found, err := Verify(Config{Dir: dir})
	if err != nil || len(found) != 2 || errors.Join(found[0].Err, found[1].Err) != nil {
		t.Errorf("got %+v, %v", found, err)
	}
}
