package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// full runs the counts that are promised; otherwise a part of them runs.
var full = os.Getenv("CONNECTD_DURABILITY") != ""

// trials is how many trials of a kind to run.
func trials(promised, quick int) int {
	switch {
	case full:
		return promised
	case testing.Short():
		return quick / 4
	}
	return quick
}

// slots is how many records the writer uses; each holds what its last batch
// says, so all of them follow from the number of the last batch.
const slots = 48

// batchOf is the nth batch of a writer: it writes two slots, deletes one, and
// says its number.
func batchOf(n int) batch {
	source := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	r := rand.New(source)
	value := func() []byte {
		b := make([]byte, 40+r.IntN(3000))
		_, _ = source.Read(b)
		return b
	}
	slot := func(i int) string { return "slot-" + strconv.Itoa(i%slots) }
	b := batch{"meta": {"number": []byte(strconv.Itoa(n))}, "a": {slot(n * 7): nil}, "b": {slot(n): value()}}
	b["a"][slot(n*5)] = value()
	return b
}

// states remembers what stateAt has computed: the state after each batch.
var states = struct {
	mu    sync.Mutex // guards after
	after []batch
}{after: []batch{{}}}

// stateAt is what a store holds after n batches. It is not to be modified.
func stateAt(n int) batch {
	states.mu.Lock()
	defer states.mu.Unlock()
	for i := len(states.after); i <= n; i++ {
		states.after = append(states.after, withoutEmpty(overlay(states.after[i-1], batchOf(i))))
	}
	return states.after[n]
}

// numberOf is the last batch that a store holds, whole and with everything
// before it; any other content is an error.
func numberOf(held batch) (int, error) {
	n, _ := strconv.Atoi(string(held["meta"]["number"]))
	if !reflect.DeepEqual(withoutEmpty(held), stateAt(n)) {
		return n, fmt.Errorf("the store says batch %d and holds something else", n)
	}
	return n, nil
}

// What a writer process is told: where, how many batches, and whether to go on
// after errors until they are written.
const (
	envWriter   = "CONNECTD_TEST_STORE_WRITER"
	envBatches  = "CONNECTD_TEST_STORE_BATCHES"
	envStubborn = "CONNECTD_TEST_STORE_STUBBORN"
)

// beWriter commits batch after batch and says so: "c" once one is committed,
// "s" once it is settled.
func beWriter(dir string) error {
	// Injected faults count the calls of one thread.
	runtime.LockOSThread()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		return err
	}
	held, err := s.Load()
	if err != nil {
		return err
	}
	n, err := numberOf(held)
	if err != nil {
		return err
	}
	batches, _ := strconv.Atoi(os.Getenv(envBatches))
	tries := 1
	if os.Getenv(envStubborn) != "" {
		tries = 200
	}
	for last := n + batches; n < last; {
		n++
		for _, step := range []struct {
			word string
			do   func() error
		}{{"c", func() error { return s.Commit(batchOf(n)) }}, {"s", s.Settle}} {
			if err := persist(step.do, tries); err != nil {
				return err
			}
			if _, err := fmt.Println(step.word, n); err != nil {
				return err
			}
		}
		if n%10 == 0 {
			if err := s.Copy(); err != nil && tries == 1 {
				return err
			}
		}
	}
	return s.Close()
}

func persist(do func() error, tries int) error {
	var err error
	for range tries {
		if err = do(); err == nil {
			return nil
		}
		fmt.Println("e", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return err
}

// acknowledged is what a writer said before it ended.
type acknowledged struct {
	committed, settled int
	failures           int
	// err is how the process ended.
	err error
}

// writer is the command of a writer process, under strace where options are
// given.
func writer(t testing.TB, dir string, batches int, strace ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{exe}
	if len(strace) > 0 {
		argv = append(append([]string{stracePath(t), "-f", "-qq"}, strace...), exe)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), envWriter+"="+dir, envBatches+"="+strconv.Itoa(batches), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// stracePath finds strace. In CI its absence is a failure.
func stracePath(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("strace")
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatal("strace is needed to inject faults: ", err)
	}
	t.Skip("strace is needed to inject faults; make durability installs it")
	return ""
}

// listen runs a writer to its end. said is called for each of its lines, with
// the process.
func listen(t testing.TB, cmd *exec.Cmd, said func(*os.Process)) acknowledged {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var a acknowledged
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err == nil {
			a.take(line)
			said(cmd.Process)
		} else if errors.Is(err, io.EOF) {
			break
		} else {
			t.Fatal(err)
		}
	}
	if a.err = cmd.Wait(); a.err != nil && stderr.Len() > 0 {
		a.err = fmt.Errorf("%w: %s", a.err, stderr.String())
	}
	return a
}

func (a *acknowledged) take(line string) {
	word, number, _ := strings.Cut(strings.TrimSpace(line), " ")
	n, _ := strconv.Atoi(number)
	switch word {
	case "c":
		a.committed = n
	case "s":
		a.settled = n
	case "e":
		a.failures++
	}
}

// survivors opens what a writer left and returns the number of its last batch.
// Nothing may be damaged.
func survivors(dir string) (int, error) {
	s, err := Open(Config{Dir: dir})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if s.Problem() != nil || len(s.Opening().SetAside) > 0 {
		return 0, fmt.Errorf("problem %v, opening %+v", s.Problem(), s.Opening())
	}
	held, err := s.Load()
	if err != nil {
		return 0, err
	}
	return numberOf(held)
}

// workers runs f on as many goroutines as there are cores, each with a
// directory of its own and a share of the trials.
func workers(t *testing.T, total int, f func(t *testing.T, dir string, r *rand.Rand, share int)) {
	n := min(runtime.GOMAXPROCS(0), 4)
	t.Run("group", func(t *testing.T) {
		for i := range n {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(privateTempDir(t), "store")
				f(t, dir, rand.New(rand.NewPCG(uint64(i), 7)), (total+i)/n)
			})
		}
	})
}
