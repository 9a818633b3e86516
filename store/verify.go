package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// verifyWait bounds one verification where the disk hangs.
	verifyWait = 10 * time.Second
	// verifyTries is how often a file is examined before what did not come to
	// a verdict counts: a machine under pressure ends processes too.
	verifyTries = 2
	// envVerifying is set for the verifying process. One that opens a store
	// itself does not know VerifyCommand, and would start itself for ever.
	envVerifying = "CONNECTD_VERIFYING_STORE"
)

// examine reads a file in a process that may crash. The error is
// fs.ErrNotExist, ErrLocked, ErrDamaged or ErrUnverified.
func examine(path string) (records, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnverified, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: it is not a regular file", ErrDamaged)
	case info.Mode().Perm()&0o077 != 0:
		// Nobody else can come through the directory, so nothing has happened.
		_ = os.Chmod(path, 0o600)
	}
	var raw records
	for range verifyTries {
		if raw, err = examineOnce(path, info.Size()); !errors.Is(err, ErrUnverified) && !errors.Is(err, errCut) {
			break
		}
	}
	return raw, err
}

func examineOnce(path string, size int64) (records, error) {
	exe, err := self()
	if err != nil || os.Getenv(envVerifying) != "" {
		return nil, fmt.Errorf("%w: this program cannot start itself: %w", ErrUnverified, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), verifyWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, VerifyCommand, path)
	cmd.Env = []string{envVerifying + "=1", "GOTRACEBACK=none"}
	if raceEnabled {
		// The race detector sleeps for a second at the end of a process.
		cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0")
	}
	// A signal for the daemon's group is not for this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var complaint bytes.Buffer
	cmd.Stderr = &limitedWriter{&complaint, 1024}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnverified, err)
	}
	raw, readErr := readAll(out, size)
	// What is left unread must not keep the process waiting.
	_ = out.Close()
	return raw, blame(readErr, cmd.Wait(), complaint.String())
}

// self is this program, and stays so when its file was replaced meanwhile.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		if _, err := os.Stat("/proc/self/exe"); err == nil {
			return "/proc/self/exe", nil
		}
	}
	return os.Executable()
}

// readAll checks the start of a stream and reads it.
func readAll(r io.Reader, size int64) (records, error) {
	in := bufio.NewReader(r)
	start := make([]byte, len(streamStart))
	if _, err := io.ReadFull(in, start); err != nil || string(start) != streamStart {
		return nil, fmt.Errorf("%w: the verifying process did not begin", ErrUnverified)
	}
	// Names of buckets are repeated for each record.
	return readStream(in, 4*size+1<<20)
}

// blame decides whether the file or something else ended a verification. A
// process that was told to end says nothing about the file.
func blame(readErr, waitErr error, complaint string) error {
	var exit *exec.ExitError
	if !errors.Is(readErr, errCut) || !errors.As(waitErr, &exit) {
		return readErr
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && !crash[status.Signal()] {
		return fmt.Errorf("%w: the verifying process was ended by %v", ErrUnverified, status.Signal())
	}
	if exit.ExitCode() == exitOvertime {
		return fmt.Errorf("%w: it keeps a reader busy for ever", ErrDamaged)
	}
	first, _, _ := strings.Cut(complaint, "\n")
	return fmt.Errorf("%w (%v: %s)", errCut, waitErr, first)
}

// crash are the signals by which a process ends that the file misled.
var crash = map[syscall.Signal]bool{
	syscall.SIGSEGV: true, syscall.SIGBUS: true, syscall.SIGABRT: true, syscall.SIGILL: true,
	syscall.SIGFPE: true, syscall.SIGTRAP: true, syscall.SIGXCPU: true,
}

// limitedWriter keeps the beginning of what is written.
type limitedWriter struct {
	to   *bytes.Buffer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	n := min(l.left, len(p))
	l.left -= n
	l.to.Write(p[:n])
	return len(p), nil
}
