package socketapi

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// peerOf reads LOCAL_PEERCRED and LOCAL_PEERPID.
func peerOf(c net.Conn) (Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Xucred
	var pid int
	var reading, readingPID error
	err = raw.Control(func(fd uintptr) {
		cred, reading = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		pid, readingPID = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	})
	if err = errors.Join(err, reading, readingPID); err != nil {
		return Peer{}, err
	}
	return Peer{PID: int32(pid), UID: cred.Uid, GID: cred.Groups[0]}, nil
}
