package socketapi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrServed means that another process serves a socket.
var ErrServed = errors.New("is served by a running process; is connectd running already?")

// Lock is the right to touch the node of a socket. It ends with the process,
// however that ends; its file stays, because removing it would let two hold
// locks on two files of one name.
type Lock struct{ file *os.File }

// TakeLock takes the lock of a socket's path. ErrServed means that another
// process has it.
func TakeLock(path string) (*Lock, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of the socket: %w", err)
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || !trustedOwner(info)) {
		err = fmt.Errorf("%s is not a file of this user or root; remove it", name)
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s %w", path, ErrServed)
		}
		return nil, fmt.Errorf("lock of the socket: %w", err)
	}
	return &Lock{f}, nil
}

// Close gives the lock back.
func (l *Lock) Close() error { return l.file.Close() }

// makeDir makes a directory for a socket, in a place that nobody else can
// change.
func makeDir(dir string) error {
	there := dir
	for {
		if _, err := os.Lstat(there); err == nil || filepath.Dir(there) == there {
			break
		}
		there = filepath.Dir(there)
	}
	if err := checkPlace(there, there == dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("socket directory: %w", err)
	}
	return checkPlace(dir, true)
}

// checkPlace refuses a directory that another user could change or replace, by
// itself or through anything above it. In a sticky directory above, others
// cannot replace what is not theirs.
func checkPlace(dir string, last bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("socket directory: %w", err)
	}
	at := "/"
	for _, name := range append([]string{""}, strings.Split(strings.Trim(dir, "/"), "/")...) {
		at = filepath.Join(at, name)
		info, err := os.Lstat(at)
		if err != nil {
			return fmt.Errorf("socket directory: %w", err)
		}
		if !trustedOwner(info) {
			return fmt.Errorf("socket directory: %s belongs to another user, who could put a socket of his own there", at)
		}
		if info.Mode().Type() == fs.ModeSymlink {
			if at, err = followRoots(at, info); err != nil {
				return err
			}
			if info, err = os.Lstat(at); err != nil {
				return fmt.Errorf("socket directory: %w", err)
			}
		}
		if err := checkDir(at, info, last && sameDir(at, dir)); err != nil {
			return err
		}
	}
	return nil
}

// followRoots follows a link of root's; the place behind it is judged as well.
func followRoots(path string, info fs.FileInfo) (string, error) {
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 {
		return "", fmt.Errorf("socket directory: %s is a symbolic link; give the place that it leads to", path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("socket directory: %w", err)
	}
	return real, checkPlace(filepath.Dir(real), false)
}

func checkDir(path string, info fs.FileInfo, last bool) error {
	switch {
	case !info.IsDir():
		return fmt.Errorf("socket directory: %s is not a directory", path)
	case !trustedOwner(info):
		return fmt.Errorf("socket directory: %s belongs to another user, who could put a socket of his own there", path)
	case info.Mode().Perm()&0o022 != 0 && (last || info.Mode()&fs.ModeSticky == 0):
		return fmt.Errorf("socket directory: others can write to %s and put a socket of their own there; chmod go-w %s, "+
			"or choose another directory", path, path)
	}
	return nil
}

// sameDir reports whether two paths are one directory.
func sameDir(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// trustedOwner reports whether a file is root's or the daemon's user's.
func trustedOwner(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || st.Uid == uint32(os.Geteuid()))
}
