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
}

// Listen opens a socket of the daemon's own user; gid -1 keeps the group.
func Listen(ctx context.Context, path string, mode fs.FileMode, gid int) (net.Listener, error) {
	return Node{Path: path, Mode: mode, UID: -1, GID: gid}.Listen(ctx)
}

// Listen opens a Unix socket that is born with its mode: there is no moment
// at which another user could connect who may not. A node that a dead daemon
// left is removed; that of a living one is an error.
func (n Node) Listen(ctx context.Context) (net.Listener, error) {
	if len(n.Path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s has %d bytes, more than the system's %d; choose a shorter one",
			n.Path, len(n.Path), maxSocketPath)
	}
	if strings.HasPrefix(n.Path, "@") {
		return nil, fmt.Errorf("socket path %s: abstract sockets have no owner and are not used", n.Path)
	}
	if err := os.MkdirAll(filepath.Dir(n.Path), 0o755); err != nil {
		return nil, fmt.Errorf("socket directory: %w", err)
	}
	if err := removeDead(ctx, n.Path); err != nil {
		return nil, err
	}
	l, err := n.bind(ctx)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", n.Path, err)
	}
	if err := n.settle(); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on %s: %w", n.Path, err)
	}
	return l, nil
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
		return fmt.Errorf("%s is served by a running process; is connectd running already?", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the dead socket: %w", err)
	}
	return nil
}
