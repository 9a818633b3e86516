package socketapi

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Children of TestPIDReuse.
const (
	envReuse = "CONNECTD_TEST_REUSE"
	envDial  = "CONNECTD_TEST_DIAL"
)

// TestPIDReuse gives the number of a peer that has ended to another process,
// in a namespace of its own, and looks whom the connection is taken for.
func TestPIDReuse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make namespaces")
	}
	if ok, err := CanPin(nil); err != nil || !ok {
		t.Skip("this kernel cannot hold processes")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPIDReuseChild$", "-test.v")
	cmd.Env = append(os.Environ(), envReuse+"="+strconv.Itoa(count(5, 1_000)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "REUSED") {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "REUSED") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// TestPIDReuseDial connects and ends.
func TestPIDReuseDial(t *testing.T) {
	path := os.Getenv(envDial)
	if path == "" {
		t.Skip("only as a child")
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("DIALED")
	_, _ = os.Stdin.Read(make([]byte, 1))
	c.Close()
}

func TestPIDReuseChild(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv(envReuse))
	if rounds == 0 {
		t.Skip("only as a child")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &door{Listener: l, pin: PeerPin, limits: NewLimits(0, 0)}
	wrong, missedRounds := 0, 0
	for done := 0; done < rounds; {
		reused, taken := reuseOnce(t, d, path, done%2 == 0)
		if !reused {
			if missedRounds++; missedRounds > 20*rounds {
				t.Fatal("no number was reused")
			}
			continue
		}
		done++
		if taken {
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d successors were taken for the peer", wrong, rounds)
	}
	fmt.Printf("REUSED %d numbers, %d wrong grants\n", rounds, wrong)
}

// reuseOnce lets a peer connect and end, and starts a successor under its
// number: before the connection is accepted, or after.
func reuseOnce(t *testing.T, d *door, path string, late bool) (reused, taken bool) {
	t.Helper()
	dial := exec.Command(os.Args[0], "-test.run=^TestPIDReuseDial$")
	dial.Env = append(os.Environ(), envDial+"="+path, envReuse+"=")
	in, err := dial.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := dial.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dial.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	var a *accepted
	accept := func() {
		c, err := d.Accept()
		if err != nil {
			t.Fatal(err)
		}
		a = c.(*accepted)
	}
	if !late {
		accept()
		if !a.of.lives() || !a.of.peer.Pinned {
			t.Fatal("a living peer counts as dead")
		}
	}
	in.Close()
	_ = dial.Wait()
	pid := dial.Process.Pid
	if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0o600); err != nil {
		t.Fatal(err)
	}
	next := exec.Command("/bin/sleep", "60")
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	if late {
		accept()
	}
	reused = next.Process.Pid == pid
	taken = a.of.lives() || late && a.of.peer.Pinned
	if reused && unix.Kill(int(a.of.peer.PID), 0) != nil {
		t.Fatal("the successor does not run: nothing is proven")
	}
	a.Close()
	_ = next.Process.Kill()
	_ = next.Wait()
	return reused, taken
}

// TestPassedConnectionsGiveNothing has another process write on a connection
// that this one opened: the descriptor was inherited.
func TestPassedConnectionsGiveNothing(t *testing.T) {
	path := serveRaw(t, nil)
	for name, want := range map[string]string{"own": "200", "inherited": "403"} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, path)
			defer c.Close()
			const request = "GET /v1/services HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
			if name == "own" {
				_, _ = io.WriteString(c, request)
			} else {
				file, err := c.(*net.UnixConn).File()
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				cmd := exec.Command("/bin/sh", "-c", "cat >&3")
				cmd.Stdin, cmd.ExtraFiles = strings.NewReader(request), []*os.File{file}
				if err := cmd.Run(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 "+want) {
				t.Errorf("got %q, %v; want %s", got, err, want)
			}
		})
	}
}
