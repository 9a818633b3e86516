package socketapi

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// peerOf reads SO_PEERCRED. It goes through the raw connection, because File
// would switch the descriptor to blocking mode and disable deadlines.
func peerOf(c net.Conn) (Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var reading error
	err = raw.Control(func(fd uintptr) {
		cred, reading = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, reading); err != nil {
		return Peer{}, err
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}, nil
}
