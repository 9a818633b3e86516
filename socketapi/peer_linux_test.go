package socketapi

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// noPin stands for a kernel that cannot hold processes.
func noPin(int) (int, error) { return -1, unix.ENOPROTOOPT }

// pidfds counts the descriptors of processes that are open here.
func pidfds(t *testing.T) int {
	t.Helper()
	n := 0
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.Contains(target, "pidfd") {
			n++
		}
	}
	return n
}

// connect returns both ends of one accepted connection.
func connect(t *testing.T, pin Pin) (net.Conn, *accepted) {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := Listen(t.Context(), path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := (&door{Listener: l, pin: pin, limits: NewLimits(0, 0)}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); c.Close() })
	return client, c.(*accepted)
}

func TestPeerIsReadAtAccept(t *testing.T) {
	for name, pin := range map[string]Pin{"pinned": PeerPin, "not_pinned": noPin} {
		t.Run(name, func(t *testing.T) {
			_, a := connect(t, pin)
			p := a.of.peer
			if p.PID != int32(os.Getpid()) || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) {
				t.Errorf("got %+v, want this process", p)
			}
			if want := name == "pinned"; p.Pinned != want || (p.Cgroup != "") != want {
				t.Errorf("got %+v, want pinned %v with its control group", p, want)
			}
			if !a.of.lives() {
				t.Error("this process counts as dead")
			}
		})
	}
}

// TestPeerIsLetGo counts descriptors over connections that end in any order.
func TestPeerIsLetGo(t *testing.T) {
	before := pidfds(t)
	var open []*accepted
	for range 50 {
		_, a := connect(t, PeerPin)
		open = append(open, a)
	}
	if got := pidfds(t); got != before+50 {
		t.Errorf("got %d held processes, want %d", got, before+50)
	}
	for _, a := range open {
		a.Close()
		a.Close()
		if a.of.lives() {
			t.Error("a process that was let go counts as living")
		}
	}
	if got := pidfds(t); got != before {
		t.Errorf("got %d held processes after all were closed, want %d", got, before)
	}
}

// TestDescriptorsAreNotTaken sends a descriptor with the first bytes.
func TestDescriptorsAreNotTaken(t *testing.T) {
	client, a := connect(t, PeerPin)
	var sent error
	raw, err := client.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) { sent = unix.Sendmsg(int(fd), []byte("GET"), unix.UnixRights(0, 1, 2), nil, 0) })
	if err != nil {
		t.Fatal(err)
	}
	if sent != nil {
		t.Logf("the kernel keeps descriptors from being sent: %v", sent)
		return
	}
	if n, err := a.Read(make([]byte, 16)); err != errDescriptors {
		t.Errorf("got %d bytes and %v, want errDescriptors", n, err)
	}
}
