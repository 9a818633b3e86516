package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// calls are the system calls at which a writer is killed, and up to which of
// them.
var calls = []struct {
	name string
	upTo int
}{
	{"pwrite64", 90}, {"fdatasync", 45}, {"fsync", 10}, {"ftruncate", 3}, {"?rename,?renameat,?renameat2", 5},
	{"?unlink,?unlinkat", 4}, {"openat", 40}, {"mmap", 60}, {"flock", 5}, {"write", 40},
}

// TestKilled kills a writer with SIGKILL, half of the times at a system call
// that strace chooses and half at any moment: all that it acknowledged is
// there, no batch is there by halves, no file is damaged.
func TestKilled(t *testing.T) {
	stracePath(t)
	var killed, atCalls, batches, fresh atomic.Int64
	total := trials(1000, 40)
	workers(t, total, func(t *testing.T, dir string, r *rand.Rand, share int) {
		for last := 0; share > 0; {
			if r.IntN(8) == 0 {
				// The first start is where most files are made.
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				last = 0
				fresh.Add(1)
			}
			a, how := killOnce(t, dir, r)
			if a.err == nil {
				// It was done before its end came.
				last = max(last, a.committed)
				continue
			}
			if !strings.Contains(a.err.Error(), "killed") {
				t.Fatalf("%s: the writer ended by itself: %v", how, a.err)
			}
			share--
			killed.Add(1)
			if how != "" {
				atCalls.Add(1)
			}
			n, err := survivors(dir)
			if want := max(last, a.committed); err != nil || n < want || n > want+1 {
				t.Fatalf("%s: got batch %d, %v; want %d or the one after it", how, n, err, want)
			}
			batches.Add(int64(n - last))
			last = n
		}
	})
	t.Logf("%d kills, %d at a chosen system call, %d new stores, %d batches: 0 acknowledged records lost, 0 damaged files",
		killed.Load(), atCalls.Load(), fresh.Load(), batches.Load())
}

func killOnce(t *testing.T, dir string, r *rand.Rand) (a acknowledged, how string) {
	t.Helper()
	if r.IntN(2) == 0 {
		at := calls[r.IntN(len(calls))]
		how := fmt.Sprintf("%s:signal=SIGKILL:when=%d", at.name, 1+r.IntN(at.upTo))
		cmd := writer(t, dir, 12, "-o", "/dev/null", "-e", "trace="+at.name, "-e", "inject="+how)
		return listen(t, cmd, func(*os.Process) {}), how
	}
	after := 1 + r.IntN(12)
	moment := time.Duration(r.IntN(3000)) * time.Microsecond
	return listen(t, writer(t, dir, 1000), func(p *os.Process) {
		if after--; after == 0 {
			time.AfterFunc(moment, func() { _ = p.Kill() })
		}
	}), ""
}

// faults are what the disk answers, and to which calls.
var faults = []struct {
	call   string
	upTo   int
	errors []string
}{
	{"pwrite64", 110, []string{"ENOSPC", "EIO", "EROFS", "EDQUOT"}},
	{"fdatasync", 56, []string{"EIO", "ENOSPC", "EROFS"}},
	{"fsync", 14, []string{"EIO", "ENOSPC", "EROFS"}},
	{"ftruncate", 4, []string{"ENOSPC", "EIO", "EROFS"}},
	{"?rename,?renameat,?renameat2", 6, []string{"ENOSPC", "EIO", "EROFS"}},
}

// TestDiskErrors makes writes fail, once or a few times in a row: the process
// goes on, recovers by itself, and nothing acknowledged is lost.
func TestDiskErrors(t *testing.T) {
	stracePath(t)
	const batches = 11
	var injected, failures atomic.Int64
	total := trials(500, 24)
	workers(t, total, func(t *testing.T, dir string, r *rand.Rand, share int) {
		last := 0
		for share > 0 {
			if r.IntN(4) == 0 {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				last = 0
			}
			f := faults[r.IntN(len(faults))]
			from := 1 + r.IntN(f.upTo)
			how := fmt.Sprintf("%s:error=%s:when=%d..%d", f.call, f.errors[r.IntN(len(f.errors))], from, from+r.IntN(4))
			cmd := writer(t, dir, batches, "--seccomp-bpf", "-o", "/dev/null", "-e", "trace="+f.call, "-e", "inject="+how)
			cmd.Env = append(cmd.Env, envStubborn+"=1")
			a := listen(t, cmd, func(*os.Process) {})
			if a.err != nil || a.settled != last+batches {
				t.Fatalf("%s: got batch %d, %v; want %d", how, a.settled, a.err, last+batches)
			}
			n, err := survivors(dir)
			if err != nil || n != a.settled {
				t.Fatalf("%s: got batch %d, %v; want %d", how, n, err, a.settled)
			}
			last = n
			if a.failures > 0 {
				share--
				injected.Add(1)
				failures.Add(int64(a.failures))
			}
		}
	})
	t.Logf("%d injections that made %d commits fail: 0 processes ended, 0 acknowledged records lost", injected.Load(), failures.Load())
}
