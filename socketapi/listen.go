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

// Listen opens a Unix socket that is born with its mode: there is no moment
// at which another user could connect who may not. A node that a dead daemon
// left is removed; that of a living one is an error. gid -1 keeps the group.
func Listen(ctx context.Context, path string, mode fs.FileMode, gid int) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s has %d bytes, more than the system's %d; choose a shorter one",
			path, len(path), maxSocketPath)
	}
	if strings.HasPrefix(path, "@") {
		return nil, fmt.Errorf("socket path %s: abstract sockets have no owner and are not used", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket directory: %w", err)
	}
	if err := removeDead(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var setting error
		err := c.Control(func(fd uintptr) {
			setting = errors.Join(unix.Fchmod(int(fd), uint32(mode.Perm())), askForSenders(int(fd)))
		})
		return errors.Join(err, setting)
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Not every platform lets fchmod decide the mode of the node.
	err = os.Chmod(path, mode.Perm())
	if err == nil && gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
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
