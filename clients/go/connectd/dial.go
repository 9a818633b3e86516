package connectd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// dialer opens connections to the one socket and checks who serves it.
type dialer struct {
	socket  string
	timeout time.Duration
	trust   trust
}

// dial ignores what the transport wants to reach: there is one daemon.
func (d *dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: d.timeout}).DialContext(ctx, "unix", d.socket)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, unreachable(d.socket, err)
	}
	if err := d.checkPeer(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// checkPeer refuses a socket that another user serves, before anything is
// asked or believed.
func (d *dialer) checkPeer(conn net.Conn) error {
	uid, known, err := peerUID(conn)
	if err != nil {
		return &Error{Code: CodeDaemonUntrusted, cause: err,
			Message: fmt.Sprintf("the system does not tell who serves %s: %v", d.socket, err)}
	}
	if !known || d.trust.accepts(d.socket, uid) {
		return nil
	}
	return d.trust.refusal(d.socket, uid)
}

// unreachable says what to do about a socket that cannot be opened.
func unreachable(socket string, err error) *Error {
	var what string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		what = fmt.Sprintf("there is no socket %s; is the daemon running? start it (connectd run, or connectd dev to "+
			"try), or name another socket with %s", socket, EnvSocket)
	case errors.Is(err, syscall.ECONNREFUSED):
		what = fmt.Sprintf("nobody listens on %s; the daemon has ended or is starting: look at its log "+
			"(journalctl -u connectd) or start it with connectd run", socket)
	case errors.Is(err, fs.ErrPermission):
		what = fmt.Sprintf("permission denied on %s; %s", socket, whoMayOpen(socket))
	default:
		what = fmt.Sprintf("cannot connect to %s: %v; is the daemon overloaded?", socket, err)
	}
	return &Error{Code: CodeUnreachable, Message: what, cause: err}
}

// whoMayOpen names the group that a user has to join, where that is visible.
func whoMayOpen(socket string) string {
	for _, path := range []string{socket, filepath.Dir(socket)} {
		o, err := ownership(path)
		if err != nil {
			continue
		}
		name := strconv.FormatUint(uint64(o.gid), 10)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		return fmt.Sprintf("add this user to the group %s, to which %s belongs, and log in again", name, path)
	}
	return "add this user to the group of the socket (socket { group } in the daemon's configuration)"
}
