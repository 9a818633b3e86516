package socketapi

import (
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups is the kernel's limit of supplementary groups.
const maxGroups = 65536

// peerOf reads ids and groups. It goes through the raw connection, because
// File would switch the descriptor to blocking mode and disable deadlines.
func peerOf(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var groups []uint32
	var reading, readingGroups error
	err = raw.Control(func(fd uintptr) {
		cred, reading = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups, readingGroups = peerGroups(int(fd))
	})
	if err = errors.Join(err, reading); err != nil {
		return Peer{}, err
	}
	if readingGroups != nil {
		// A kernel without the option: only the first group is known.
		groups = nil
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid, Groups: groups}, nil
}

// peerGroups reads SO_PEERGROUPS. The kernel says how much room it needs.
func peerGroups(fd int) ([]uint32, error) {
	var few [32]uint32
	groups := few[:]
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		n := int(size / 4)
		switch {
		case errno == 0 && n == 0:
			return nil, nil
		case errno == 0:
			return append([]uint32(nil), groups[:n]...), nil
		case errno != unix.ERANGE || n <= len(groups) || n > maxGroups:
			return nil, errno
		}
		groups = make([]uint32, n)
	}
}

// PeerPin reads SO_PEERPIDFD.
func PeerPin(fd int) (int, error) {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == nil {
		unix.CloseOnExec(pidfd)
	}
	return pidfd, err
}

// process is a process that the kernel holds for us: its descriptor never
// comes to mean another one.
type process struct {
	mu sync.RWMutex // guards fd
	// fd is -1 once the process was let go.
	fd int
}

// hold asks the kernel for the peer's process. gone tells a peer that has
// ended from a kernel that cannot hold one.
func hold(c *net.UnixConn, pin Pin) (held *process, gone bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, true
	}
	pidfd := -1
	var pinning error
	if err = raw.Control(func(fd uintptr) { pidfd, pinning = pin(int(fd)) }); err != nil {
		return nil, true
	}
	if pinning != nil {
		return nil, !errors.Is(pinning, unix.ENOPROTOOPT)
	}
	return &process{fd: pidfd}, false
}

// lives reports whether any thread of the process runs. A process that waits
// to be reaped does not.
func (p *process) lives() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n == 0
	}
}

// close lets the process go. Its one caller is the connection's Close.
func (p *process) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Close(p.fd)
	p.fd = -1
}

// cgroupOf reads the control group of a process by its number.
func cgroupOf(pid int32) string {
	if pid <= 0 {
		return ""
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/cgroup")
	if err != nil {
		return ""
	}
	return parseCgroup(string(text))
}

// askForSenders makes the kernel say with each piece of data who wrote it. A
// connection inherits that from its listener, so nothing slips in between.
func askForSenders(fd int) error {
	// Newer kernels can keep descriptors from being sent at all.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0)
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
}

// errDescriptors ends a connection that sends what nobody asked for.
var errDescriptors = errors.New("the peer sent descriptors")

// receive reads from a connection and tells which process wrote what was read;
// 0 where that is not known.
func receive(c *net.UnixConn, p []byte) (n int, sender int32, err error) {
	// There is room for the sender's ids and nothing else, so that a peer
	// cannot make us hold descriptors.
	var control [unix.SizeofCmsghdr + 16]byte
	n, m, flags, _, err := c.ReadMsgUnix(p, control[:])
	if err != nil || m < unix.SizeofCmsghdr+unix.SizeofUcred {
		return max(n, 0), 0, err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return 0, 0, errDescriptors
	}
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if header.Level != unix.SOL_SOCKET || header.Type != unix.SCM_CREDENTIALS {
		return 0, 0, errDescriptors
	}
	return n, (*unix.Ucred)(unsafe.Pointer(&control[unix.SizeofCmsghdr])).Pid, nil
}

// discard drops what has arrived on a connection, without waiting.
func discard(c *net.UnixConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	var dropped [4 << 10]byte
	_ = raw.Control(func(fd uintptr) {
		for range maxRequestBytes / len(dropped) {
			if n, err := unix.Read(int(fd), dropped[:]); n <= 0 || err != nil {
				return
			}
		}
	})
}
