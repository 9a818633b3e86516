package socketapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what fits into a socket address on every platform here.
const maxSocketPath = 103

// Node is the place of a Unix socket and who may open it.
type Node struct {
	Path string
	Mode fs.FileMode
	// UID and GID own the node; -1 keeps the daemon's own.
	UID, GID int
	// Lock is that of the path; nil means that Listen takes it.
	Lock *Lock
}

// Bound is a listener with its node.
type Bound struct {
	*net.UnixListener
	node Node
	// made is the node as it was made.
	made fs.FileInfo
	// lock is what Listen took.
	lock *Lock
}

// InPlace reports whether clients that open the path come here.
func (b *Bound) InPlace() bool {
	now, err := os.Lstat(b.node.Path)
	return err == nil && os.SameFile(now, b.made)
}

// Close ends the listener and removes its own node, and never another's.
func (b *Bound) Close() error {
	if b.InPlace() {
		_ = os.Remove(b.node.Path)
	}
	err := b.UnixListener.Close()
	if b.lock != nil {
		_ = b.lock.Close()
	}
	return err
}

// Listen opens a socket of the daemon's own user; gid -1 keeps the group.
func Listen(ctx context.Context, path string, mode fs.FileMode, gid int) (net.Listener, error) {
	b, err := Node{Path: path, Mode: mode, UID: -1, GID: gid}.Listen(ctx)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Listen opens a Unix socket that is born with its mode: there is no moment
// at which another user could connect who may not. Only the holder of the
// path's lock touches what is there: a node that a dead daemon left is
// removed; that of a living process is an error.
func (n Node) Listen(ctx context.Context) (*Bound, error) {
	if len(n.Path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s has %d bytes, more than the system's %d; choose a shorter one",
			n.Path, len(n.Path), maxSocketPath)
	}
	if strings.HasPrefix(n.Path, "@") {
		return nil, fmt.Errorf("socket path %s: abstract sockets have no owner and are not used", n.Path)
	}
	b := &Bound{node: n}
	if n.Lock == nil {
		lock, err := TakeLock(n.Path)
		if err != nil {
			return nil, err
		}
		b.lock = lock
	}
	if err := b.open(ctx); err != nil {
		if b.lock != nil {
			_ = b.lock.Close()
		}
		return nil, err
	}
	return b, nil
}

// open makes the node, once the lock is held.
func (b *Bound) open(ctx context.Context) error {
	n := b.node
	if err := makeDir(filepath.Dir(n.Path)); err != nil {
		return err
	}
	if err := removeDead(ctx, n.Path); err != nil {
		return err
	}
	l, err := n.bind(ctx)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", n.Path, err)
	}
	// By itself it would remove whatever has the path in the end.
	b.UnixListener = l.(*net.UnixListener)
	b.SetUnlinkOnClose(false)
	if b.made, err = os.Lstat(n.Path); err == nil {
		err = n.settle()
	}
	if err != nil {
		_ = b.UnixListener.Close()
		return fmt.Errorf("listen on %s: %w", n.Path, err)
	}
	return nil
}

// bind makes the node with its mode. One that will change hands is the
// daemon's alone until it has: the daemon's group is not the one to admit.
func (n Node) bind(ctx context.Context) (net.Listener, error) {
	mode := n.Mode.Perm()
	if n.UID >= 0 || n.GID >= 0 {
		mode &= 0o700
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var setting error
		err := c.Control(func(fd uintptr) {
			setting = errors.Join(unix.Fchmod(int(fd), uint32(mode)), askForSenders(int(fd)))
		})
		return errors.Join(err, setting)
	}}
	return config.Listen(ctx, "unix", n.Path)
}

// settle gives the node to its owner, and then the mode to those who are meant
// by it. Not every platform lets fchmod decide the mode of the node.
func (n Node) settle() error {
	if n.UID >= 0 || n.GID >= 0 {
		if err := os.Lchown(n.Path, n.UID, n.GID); err != nil {
			return err
		}
	}
	return os.Chmod(n.Path, n.Mode.Perm())
}

// removeDead removes the node of a socket that nobody serves.
func removeDead(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("socket path: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket; remove it or choose another socket path", path)
	}
	if conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s %w", path, ErrServed)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the dead socket: %w", err)
	}
	return nil
}

// Again opens the same place once more, after its node was lost, under the
// lock that is held already.
func (b *Bound) Again(ctx context.Context) (*Bound, error) {
	next := &Bound{node: b.node}
	if err := next.open(ctx); err != nil {
		return nil, err
	}
	return next, nil
}
