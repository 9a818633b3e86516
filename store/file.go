package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// file is a bbolt file that this process writes: one that it built itself, or
// one that was verified. Nothing that the file does to bbolt leaves a method
// but as an error.
type file struct {
	db *bbolt.DB
	// handle is bbolt's own descriptor.
	handle *os.File
	// broken is true after a panic: bbolt's locks may still be held.
	broken bool
}

// guarded runs f, which works on a mapped file: a panic of bbolt and a fault
// of the mapping become errors.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errFault, r)
		}
	}()
	return f()
}

// mapFile opens a verified or new file.
func mapFile(path string, flag int) (*file, error) {
	f := &file{}
	err := guarded(func() error {
		var err error
		f.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: lockWait, FreelistType: bbolt.FreelistMapType,
			OpenFile: func(path string, own int, mode os.FileMode) (*os.File, error) {
				// bbolt would create what is not there, unfinished as it is.
				var err error
				f.handle, err = os.OpenFile(path, own&^os.O_CREATE|flag, mode)
				return f.handle, err
			},
		})
		return classify(err)
	})
	if err == nil {
		return f, nil
	}
	if errors.Is(err, errFault) && f.handle != nil {
		_ = f.handle.Close()
	}
	return nil, err
}

// create makes a complete file: all records in one transaction, and an empty
// one after it, so that both meta pages lead to them.
func create(path string, parts ...records) (*file, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := mapFile(path, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	if err = f.update(parts...); err == nil {
		err = f.update()
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// update writes everything in one transaction; nil deletes.
func (f *file) update(parts ...records) error {
	err := guarded(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error {
			for _, part := range parts {
				for bucket, list := range part {
					if err := put(tx, bucket, list); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	f.broken = f.broken || errors.Is(err, errFault)
	return err
}

func put(tx *bbolt.Tx, bucket string, list map[string][]byte) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	for key, record := range list {
		if record == nil {
			err = b.Delete([]byte(key))
		} else {
			err = b.Put([]byte(key), record)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// at reports whether the file is still the one at its path. What is written
// into a file that was removed is lost with the process.
func (f *file) at(path string) bool {
	own, err := f.handle.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(own, there)
}

// close gives the file up. After a panic bbolt's own way could wait for ever
// for a lock, so only the descriptor is closed, and the mapping stays.
func (f *file) close() {
	if f.broken {
		_ = f.handle.Close()
		return
	}
	if guarded(f.db.Close) != nil {
		_ = f.handle.Close()
	}
}
