package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// fileName is the one file of the store inside its directory.
const fileName = "connectd.db"

// format is the version of the layout that this code writes and the newest
// that it reads.
const format = 1

var (
	headerBucket = []byte("store")
	formatKey    = []byte("format")
)

// lockWait is how long Open waits for another process to let go of the file.
const lockWait = time.Second

// Store is an open store. Load is called once, at start; Commit may be called
// from one goroutine at a time.
type Store struct {
	path string
	db   *bbolt.DB
}

// Open opens the store in dir, creating directory (0700) and file (0600) as
// needed. It returns ErrLocked, ErrNewerFormat or ErrDamaged where those
// apply, and leaves the file alone then; a file that is in order is not written
// to either.
func Open(dir string) (*Store, error) {
	if err := privateDir(dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	path := filepath.Join(dir, fileName)
	if err := privateFile(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, classify(err))
	}
	s := &Store{path: path, db: db}
	if err := s.checkFormat(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("directory %s is open to other users (mode %04o); run: chmod 0700 %s",
			dir, info.Mode().Perm(), dir)
	}
	return nil
}

// privateFile refuses a file that others could read or had a hand in. One that
// does not exist yet is made private.
func privateFile(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("file %s is open to other users (mode %04o); run: chmod 0600 %s",
			path, info.Mode().Perm(), path)
	}
	return nil
}

// classify tells what the operating system refuses from what the file is not:
// bbolt has no name for every kind of damage.
func classify(err error) error {
	var byPath *fs.PathError
	var errno syscall.Errno
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrLocked
	case errors.As(err, &byPath), errors.As(err, &errno):
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// checkFormat writes to a new file alone, so that a file of a newer version, or
// of somebody else, stays as it is.
func (s *Store) checkFormat() error {
	fresh := false
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		fresh, err = readFormat(tx)
		return err
	})
	if err != nil || !fresh {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		header, err := tx.CreateBucket(headerBucket)
		if err != nil {
			return err
		}
		return header.Put(formatKey, binary.BigEndian.AppendUint32(nil, format))
	})
}

// readFormat reports whether the file is a new one.
func readFormat(tx *bbolt.Tx) (fresh bool, err error) {
	header := tx.Bucket(headerBucket)
	if header == nil {
		if first, _ := tx.Cursor().First(); first != nil {
			return false, fmt.Errorf("%w: it is not one of connectd's", ErrDamaged)
		}
		return true, nil
	}
	have := header.Get(formatKey)
	if len(have) != 4 {
		return false, fmt.Errorf("%w: the format record has %d bytes", ErrDamaged, len(have))
	}
	if n := binary.BigEndian.Uint32(have); n > format {
		return false, fmt.Errorf("%w (format %d, this one reads up to %d)", ErrNewerFormat, n, format)
	}
	return false, nil
}

// Load returns every record by bucket and key. One damaged record fails all:
// a set with a hole in it could widen access.
func (s *Store) Load() (map[string]map[string][]byte, error) {
	out := map[string]map[string][]byte{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if string(name) == string(headerBucket) {
				return nil
			}
			records, err := loadBucket(string(name), b)
			out[string(name)] = records
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("load store %s: %w", s.path, err)
	}
	return out, nil
}

func loadBucket(name string, b *bbolt.Bucket) (map[string][]byte, error) {
	records := map[string][]byte{}
	err := b.ForEach(func(key, record []byte) error {
		value, err := open(name, string(key), record)
		records[string(key)] = value
		return err
	})
	return records, err
}

// Commit writes a batch in one transaction and returns when it is durable. A
// nil value deletes its record.
func (s *Store) Commit(batch map[string]map[string][]byte) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for name, records := range batch {
			if name == string(headerBucket) {
				return fmt.Errorf("bucket %q is the store's own", name)
			}
			bucket, err := tx.CreateBucketIfNotExists([]byte(name))
			if err != nil {
				return err
			}
			if err := write(bucket, name, records); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit to store %s: %w", s.path, err)
	}
	return nil
}

func write(b *bbolt.Bucket, name string, records map[string][]byte) error {
	for key, value := range records {
		var err error
		if value == nil {
			err = b.Delete([]byte(key))
		} else {
			err = b.Put([]byte(key), seal(name, key, value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Path returns the file of the store.
func (s *Store) Path() string { return s.path }

// Close releases the store.
func (s *Store) Close() error { return s.db.Close() }
