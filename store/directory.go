package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// fileName is the file of the store inside its directory.
	fileName = "connectd.db"
	// previousName is the copy that opening falls back to.
	previousName = "connectd.prev.db"
	// newSuffix marks a file that is not finished.
	newSuffix = ".new"
	// damagedPattern matches files that were set aside.
	damagedPattern = "damaged-*.db"
	// keepDamaged is how many of those stay, for people to look at.
	keepDamaged = 3
)

// directory is where the store lives. It is held open and locked, so there is
// one daemon, and is recognized when something else takes its place.
type directory struct {
	path   string
	handle *os.File
	info   fs.FileInfo
}

func enter(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	handle, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path: path, handle: handle}
	if d.info, err = handle.Stat(); err == nil {
		err = d.claim()
	}
	if err != nil {
		_ = handle.Close()
		return nil, err
	}
	return d, nil
}

func (d *directory) claim() error {
	if !d.info.IsDir() {
		return fmt.Errorf("%s is not a directory", d.path)
	}
	if mode := d.info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("directory %s is open to other users (mode %04o); run: chmod 0700 %s", d.path, mode, d.path)
	}
	// The lock is on the directory: it needs no file that a full disk cannot
	// hold, and it stays where it is when the file is replaced. A file system
	// that cannot lock leaves it to bbolt's own lock.
	return d.lock()
}

// lockEvery is how often a lock that is held is tried.
const lockEvery = 10 * time.Millisecond

// lock waits a little: of a daemon that was killed, a process that was just
// being started may be left for a moment.
func (d *directory) lock() error {
	for end := time.Now().Add(lockWait); ; {
		err := syscall.Flock(int(d.handle.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil
		}
		if time.Now().After(end) {
			return ErrLocked
		}
		<-time.After(lockEvery)
	}
}

// close lets go of the lock by itself: a process that is just being started
// holds a copy of the descriptor until it runs its program.
func (d *directory) close() error {
	_ = syscall.Flock(int(d.handle.Fd()), syscall.LOCK_UN)
	return d.handle.Close()
}

func (d *directory) join(name string) string { return filepath.Join(d.path, name) }

// same refuses to write into a directory that took the place of the one that
// was opened: secrets must not land where someone else put a directory.
func (d *directory) same() error {
	info, err := os.Stat(d.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, d.info) {
		return ErrMoved
	}
	return err
}

// sync makes names durable, on a descriptor of its own: one that failed once
// would not say so again.
func (d *directory) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// rename puts a finished file in its place, durably.
func (d *directory) rename(from, to string) error {
	if err := d.same(); err != nil {
		return err
	}
	if err := os.Rename(d.join(from), d.join(to)); err != nil {
		return err
	}
	return d.sync()
}

// setAside moves a damaged file out of the way and keeps it, with the two
// before it.
func (d *directory) setAside(name string) (string, error) {
	as := "damaged-" + time.Now().UTC().Format("20060102T150405.000000") + ".db"
	if err := d.rename(name, as); err != nil {
		return "", err
	}
	// The time in the names orders them.
	old, _ := filepath.Glob(d.join(damagedPattern))
	slices.SortFunc(old, strings.Compare)
	for len(old) > keepDamaged {
		_ = os.Remove(old[0])
		old = old[1:]
	}
	return as, nil
}

// exists reports whether a file is there; one that cannot be looked at is.
func (d *directory) exists(name string) bool {
	_, err := os.Lstat(d.join(name))
	return !errors.Is(err, fs.ErrNotExist)
}
