package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// beWriter commits batch after batch and says so after each. Every batch holds
// its number in several records, so that half of a batch can be told.
func beWriter(dir string) error {
	s, err := Open(Config{Dir: dir})
	if err != nil {
		return err
	}
	held, err := s.Load()
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(held["a"]["number"]))
	for {
		n++
		text := []byte(strconv.Itoa(n))
		batch := map[string]map[string][]byte{
			"a": {"number": text, "filler-" + strconv.Itoa(n%50): bytes.Repeat(text, 500)},
			"b": {"number": text, "deleted": nil, "record-" + strconv.Itoa(n): text},
		}
		if err := errors.Join(s.Commit(batch), s.Settle()); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

// killWriter runs a writer until it has acknowledged some batches, kills it and
// returns the number of the last batch that it acknowledged.
func killWriter(t *testing.T, dir string, batches int) int {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), envWriter+"="+dir)
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, last := bufio.NewScanner(out), 0
	for i := 0; lines.Scan(); i++ {
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			last = n
		}
		if i == batches {
			_ = cmd.Process.Kill()
		}
	}
	if err := cmd.Wait(); err == nil || last == 0 {
		t.Fatalf("the writer ended by itself after batch %d: %v\n%s", last, err, stderr.String())
	}
	return last
}

// TestKilledWhileWriting kills a writer 50 times at moments that it does not
// choose: everything acknowledged is there, and no batch is there by halves.
func TestKilledWhileWriting(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	dir := privateTempDir(t)
	for round := range rounds {
		last := killWriter(t, dir, round%7)
		s, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		held, err := s.Load()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		a, b := string(held["a"]["number"]), string(held["b"]["number"])
		n, _ := strconv.Atoi(a)
		if a != b || n < last || n > last+1 {
			t.Fatalf("round %d: got batches %s and %s, want %d or the one after it, whole", round, a, b, last)
		}
		for i := 1; i <= n; i++ {
			if got := string(held["b"]["record-"+strconv.Itoa(i)]); got != strconv.Itoa(i) {
				t.Fatalf("round %d: got %q for batch %d of %d", round, got, i, n)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
