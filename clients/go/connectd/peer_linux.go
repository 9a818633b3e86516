package connectd

import (
	"errors"
	"net"
	"syscall"
)

// peerUID returns the user who listens at the other end, as the kernel knows
// it. It goes through the raw connection, because File would switch the
// descriptor to blocking mode.
func peerUID(conn net.Conn) (uid uint32, known bool, err error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, false, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var cred *syscall.Ucred
	var reading error
	err = raw.Control(func(fd uintptr) {
		cred, reading = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, reading); err != nil {
		return 0, false, err
	}
	return cred.Uid, true, nil
}
