package store

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// VerifyCommand is the first argument of the process that reads a file before
// the daemon may map it. A program that opens a store passes what follows to
// VerifyMain.
const VerifyCommand = "__verify-store"

const (
	// childMemory bounds the address space beyond the size of the file; Go's
	// own reservations are most of it.
	childMemory = 2 << 30
	// childStack ends a recursion that a damaged file makes endless.
	childStack = 64 << 20
	// childCPU is in seconds. 1,000 leaves take about 10 ms.
	childCPU = 1
	// exitOvertime is the exit code of a process that used up its time.
	exitOvertime = 3
	// lockWait is how long to wait for another process to let go of the file.
	lockWait = time.Second
)

// VerifyMain reads the file that args name and writes what it holds to
// standard output. bbolt trusts its file and dies of a damaged one; this
// process may. It has no key: what it says is judged by whoever started it. It
// returns the exit code.
func VerifyMain(args []string) int {
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	// From here on, an end without a verdict is the file's doing.
	_, _ = out.WriteString(streamStart)
	if out.Flush() != nil || len(args) != 1 {
		return 2
	}
	w := &streamWriter{w: out}
	err := limitSelf(args[0])
	if err == nil {
		err = readFile(args[0], w)
	}
	w.end(err)
	if out.Flush() != nil {
		return 2
	}
	return 0
}

// limitSelf bounds what a damaged file can make this process use. A core file
// is never written.
func limitSelf(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	debug.SetMaxStack(childStack)
	debug.SetTraceback("none")
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	cpu := uint64(childCPU + info.Size()>>26)
	_ = unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: cpu, Max: cpu + 1})
	if memory := uint64(childMemory + 4*info.Size()); !raceEnabled {
		_ = unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: memory, Max: memory})
	}
	overtime := make(chan os.Signal, 1)
	signal.Notify(overtime, syscall.SIGXCPU)
	go func() {
		<-overtime
		os.Exit(exitOvertime)
	}()
	return nil
}

// readFile checks the structure of a file and streams every record.
func readFile(path string, w *streamWriter) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		// bbolt would make it a store.
		return fmt.Errorf("%w: it is empty", ErrDamaged)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		ReadOnly: true, Timeout: lockWait, PreLoadFreelist: true, FreelistType: bbolt.FreelistMapType,
	})
	if err != nil {
		return classify(err)
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w: it is shorter than it says", ErrDamaged)
		}
		// A page that is both free and in use reads well, and is lost with the
		// next write.
		for err := range tx.Check() {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return w.bucket(name, b, info.Size()) })
	})
}

// classify tells what the operating system refuses from what the file is not:
// bbolt has no name for every kind of damage.
func classify(err error) error {
	var byPath *fs.PathError
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrLocked
	case errors.As(err, &byPath), errors.As(err, &errno):
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
