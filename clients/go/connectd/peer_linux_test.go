package connectd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// stranger is a user id that is neither root's nor ours.
const stranger = 54321

// listenAs listens as another user. Linux keeps the user of a thread, and the
// socket remembers who listened.
func listenAs(t *testing.T, socket string, uid uintptr) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const keep = ^uintptr(0)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, uid, keep); errno != 0 {
		t.Fatal(errno)
	}
	l, err := net.Listen("unix", socket)
	_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, 0, keep)
	if err != nil || errno != 0 {
		t.Fatal(err, errno)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func TestAnUntrustedDaemonIsNotAsked(t *testing.T) {
	socket, uid := socketPath(t), os.Geteuid()
	c := clientOf(t, socket)
	if uid == 0 {
		uid = stranger
		place := strings.TrimSuffix(socket, "/s")
		if err := errors.Join(os.Chown(place, uid, -1), os.Chmod(place, 0o755)); err != nil {
			t.Fatal(err)
		}
		listenAs(t, socket, stranger)
	} else {
		// Without another user to listen, the client is made another.
		listenHere(t, socket)
		d := &dialer{socket: socket, timeout: DefaultTimeout, trust: trust{own: uint32(uid) + 1, look: place{}.look}}
		c.transport.DialContext = d.dial
	}
	_, err := c.Health(t.Context())
	e := asError(t, err)
	if e.Code != CodeDaemonUntrusted || !strings.Contains(e.Message, fmt.Sprintf("%s=%d", EnvTrustUID, uid)) {
		t.Errorf("got %+v", e)
	}
}

func listenHere(t *testing.T, socket string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func TestTheKernelNamesThePeer(t *testing.T) {
	socket := socketPath(t)
	listenHere(t, socket)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if uid, known, err := peerUID(conn); err != nil || !known || int(uid) != os.Geteuid() {
		t.Errorf("got %d, %t and %v", uid, known, err)
	}
}

func TestPeerUIDWantsAUnixSocket(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if err := (&dialer{}).checkPeer(a); asError(t, err).Code != CodeDaemonUntrusted {
		t.Errorf("got %v", err)
	}
}
