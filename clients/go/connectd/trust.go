package connectd

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// trust says which users' daemons are believed. Whoever answers on the socket
// hands out identities and decisions, so it must be somebody who could take
// over this process anyway, or to whom root gave the place.
type trust struct {
	own uint32
	// chosen takes the place of the directory's owner; nil if nobody is named.
	chosen *uint32
	look   func(path string) (owner, error)
}

// owner is to whom a file belongs.
type owner struct {
	uid, gid uint32
	mode     fs.FileMode
}

func newTrust(chosen *uint32) (trust, error) {
	if chosen == nil {
		var err error
		if chosen, err = trustUIDFromEnv(); err != nil {
			return trust{}, err
		}
	}
	return trust{own: uint32(os.Geteuid()), chosen: chosen, look: ownership}, nil
}

func (t trust) accepts(socket string, uid uint32) bool {
	switch {
	case uid == 0, uid == t.own:
		return true
	case t.chosen != nil:
		return uid == *t.chosen
	}
	return t.ownsPlace(socket, uid)
}

// overflowUID stands for every user that this user namespace does not map: it
// names nobody in particular.
const overflowUID = 65534

// ownsPlace reports whether root gave the socket's directory to uid. Both the
// path as written and the one behind its links must be out of others' reach.
func (t trust) ownsPlace(socket string, uid uint32) bool {
	if uid == overflowUID {
		return false
	}
	written, err := filepath.Abs(filepath.Dir(socket))
	if err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(written)
	return err == nil && t.given(written, uid) && t.given(real, uid)
}

// given reports whether dir belongs to uid and everything above it to root,
// not writable by others.
func (t trust) given(dir string, uid uint32) bool {
	if o, err := t.look(dir); err != nil || o.uid != uid {
		return false
	}
	for dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		if o, err := t.look(dir); err != nil || o.uid != 0 || o.mode.Perm()&0o022 != 0 {
			return false
		}
	}
	return true
}

func (t trust) refusal(socket string, uid uint32) *Error {
	return &Error{Code: CodeDaemonUntrusted, Message: fmt.Sprintf(
		"%s is served by uid %d, who is neither root nor this user (uid %d) nor known as the daemon's user; "+
			"if that is the daemon, set %s=%d", socket, uid, t.own, EnvTrustUID, uid)}
}
