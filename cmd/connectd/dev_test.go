package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newcomer runs what a newcomer runs: the program itself.
type newcomer struct {
	program string
	env     []string
}

func newNewcomer(t *testing.T) newcomer {
	t.Helper()
	dir, err := os.MkdirTemp("", "newcomer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := newcomer{program: filepath.Join(dir, "connectd")}
	if out, err := exec.Command("go", "build", "-o", n.program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A runtime directory of its own keeps the test apart from a developer's
	// own development daemon.
	n.env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "CONNECTD_SOCKET=", "PATH="+dir+":"+os.Getenv("PATH"))
	return n
}

// TestNewcomersPath starts "connectd dev", runs each command that it prints as
// it is printed, and ends it.
func TestNewcomersPath(t *testing.T) {
	n := newNewcomer(t)
	daemon := exec.Command(n.program, "dev")
	daemon.Args[0] = "connectd"
	daemon.Env = n.env
	var log bytes.Buffer
	daemon.Stderr = &log
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill() })
	commands := printedCommands(t, bufio.NewScanner(out))
	if len(commands) != 3 {
		t.Fatalf("printed %d commands to try, want 3: %q", len(commands), commands)
	}
	wants := []string{"state     ok", `"spiffe_id":"spiffe://connectd-development.consul/`, "allow: web may reach db"}
	for i, command := range commands {
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = n.env
		got, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(got), wants[i]) {
			t.Errorf("%s: %v\ngot %s\nwant it to hold %q", command, err, got, wants[i])
		}
	}
	endDaemon(t, daemon, &log)
}

// printedCommands reads the daemon's welcome up to its last line.
func printedCommands(t *testing.T, lines *bufio.Scanner) []string {
	t.Helper()
	var commands []string
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "  ") {
			commands = append(commands, strings.TrimSpace(line))
		}
		if strings.Contains(line, "CONSUL_HTTP_ADDR") {
			return commands
		}
	}
	t.Fatal("the daemon ended before its welcome did")
	return nil
}

// endDaemon ends the daemon as Ctrl-C does: it must end by itself, well, and
// take its socket along.
func endDaemon(t *testing.T, daemon *exec.Cmd, log *bytes.Buffer) {
	t.Helper()
	if err := daemon.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the daemon ended with %v\n%s", err, log)
		}
	case <-time.After(10 * time.Second):
		t.Error("the daemon did not end within 10 s of Ctrl-C")
	}
}
