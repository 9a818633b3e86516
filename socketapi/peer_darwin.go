package socketapi

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// peerOf reads LOCAL_PEERCRED and LOCAL_PEERPID.
func peerOf(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
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
	n := min(max(int(cred.Ngroups), 1), len(cred.Groups))
	return Peer{PID: int32(pid), UID: cred.Uid, GID: cred.Groups[0], Groups: cred.Groups[1:n:n]}, nil
}

// PeerPin fails: this system cannot hold a process.
func PeerPin(int) (int, error) { return -1, unix.ENOPROTOOPT }

// process is a process that the kernel holds; here there is never one.
type process struct{}

func hold(*net.UnixConn, Pin) (held *process, gone bool) { return nil, false }

func (*process) lives() bool { return false }
func (*process) close()      {}

func cgroupOf(int32) string { return "" }

func askForSenders(int) error { return nil }

// receive reads from a connection; who wrote is not known here.
func receive(c *net.UnixConn, p []byte) (n int, sender int32, err error) {
	n, err = c.Read(p)
	return n, 0, err
}

// peerOfPID is not offered here: nothing holds the process meanwhile.
func peerOfPID(int32) (Peer, error) { return Peer{}, errNoProcess }

// discard is not needed here: closing does not take an answer back.
func discard(*net.UnixConn) {}
