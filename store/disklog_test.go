package store

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// An event is one thing that a writer did to the disk, or said.
type event struct {
	call      string
	fd        int
	path, to  string
	data      []byte
	offset    int64
	size      int64
	create    bool
	truncates bool
	// failed is true for a call that returned an error; feigned for one that
	// strace kept from the kernel.
	failed, feigned bool
}

// traced are the calls by which a store changes a disk.
const traced = "trace=openat,pwrite64,write,ftruncate,fsync,fdatasync,?rename,?renameat,?renameat2,?unlink,?unlinkat"

// record runs a writer under strace and returns what its main thread did, in
// order. strace writes one file for each thread.
func record(t testing.TB, dir string, batches int, options ...string) ([]event, acknowledged) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	options = append([]string{"-ff", "-o", log, "-xx", "-s", "4194304", "-e", traced}, options...)
	said := listen(t, writer(t, dir, batches, options...), func(*os.Process) {})
	files, err := filepath.Glob(log + ".*")
	if err != nil || len(files) == 0 {
		t.Fatalf("strace left no log: %v", said.err)
	}
	// The main thread's is the one that wrote most.
	biggest := slices.MaxFunc(files, func(a, b string) int { return int(size(t, a) - size(t, b)) })
	f, err := os.Open(biggest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var events []event
	in := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := in.ReadString('\n')
		if e, ok := parseEvent(line); ok {
			events = append(events, e)
		}
		if err != nil {
			return events, said
		}
	}
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func parseEvent(line string) (event, bool) {
	// A line reads: call(arguments) = result. Strings are in hexadecimal, so
	// they hold none of the marks.
	name, rest, _ := strings.Cut(line, "(")
	end := strings.LastIndex(rest, ")  ")
	if end < 0 {
		end = strings.LastIndex(rest, ") = ")
	}
	if end < 0 {
		return event{}, false
	}
	_, result, _ := strings.Cut(rest[end:], "= ")
	var texts [][]byte
	var others strings.Builder
	for i, part := range strings.Split(rest[:end], `"`) {
		if i%2 == 0 {
			others.WriteString(part)
			continue
		}
		b, _ := hex.DecodeString(strings.ReplaceAll(part, `\x`, ""))
		texts = append(texts, b)
	}
	fields := strings.Split(others.String(), ", ")
	e := event{call: name, failed: strings.HasPrefix(result, "-"), feigned: strings.Contains(result, "INJECTED")}
	e.fd, _ = strconv.Atoi(fields[0])
	last, _ := strconv.ParseInt(fields[len(fields)-1], 10, 64)
	switch e.call {
	case "openat":
		e.path = string(texts[0])
		e.fd, _ = strconv.Atoi(strings.Fields(result)[0])
		e.create, e.truncates = strings.Contains(others.String(), "O_CREAT"), strings.Contains(others.String(), "O_TRUNC")
	case "pwrite64":
		e.data, e.offset = texts[0], last
	case "write":
		e.data = texts[0]
	case "ftruncate":
		e.size = last
	case "rename", "renameat", "renameat2":
		e.path, e.to = string(texts[0]), string(texts[1])
	case "unlink", "unlinkat":
		e.path = string(texts[0])
	}
	return e, true
}

// node is the content of one file: what is on the disk for certain, and what
// was written since the last sync.
type node struct {
	durable []byte
	pending []event
	// live is the size that the process sees.
	live int64
}

// disk is a directory as it may be found after the power went: the names as
// of the last sync of the directory and some of the changes after it, and in
// each file all synced writes and any of the others, sector by sector.
type disk struct {
	dir         string
	open        map[int]*node
	dirs        map[int]bool
	live, names map[string]*node
	changes     []func(map[string]*node)
	said        acknowledged
}

func newDisk(dir string) *disk {
	return &disk{dir: dir, open: map[int]*node{}, dirs: map[int]bool{}, live: map[string]*node{}, names: map[string]*node{}}
}

// play does what happened, up to a moment.
func (d *disk) play(events []event) {
	for _, e := range events {
		if e.call == "write" && e.fd == 1 {
			for line := range strings.Lines(string(e.data)) {
				d.said.take(line)
			}
			continue
		}
		if !e.failed {
			d.do(e)
		}
	}
}

func (d *disk) rename(change func(map[string]*node)) {
	change(d.live)
	d.changes = append(d.changes, change)
}

func (d *disk) do(e event) {
	name := strings.TrimPrefix(e.path, d.dir+"/")
	mine := strings.HasPrefix(e.path, d.dir+"/")
	switch n := d.open[e.fd]; e.call {
	case "openat":
		delete(d.open, e.fd)
		d.dirs[e.fd] = e.path == d.dir
		if !mine {
			return
		}
		n := d.live[name]
		if n == nil && e.create {
			n = &node{}
			d.rename(func(m map[string]*node) { m[name] = n })
		}
		if d.open[e.fd] = n; n != nil && e.truncates {
			n.pending, n.live = append(n.pending, event{call: "ftruncate"}), 0
		}
	case "pwrite64", "write":
		if n == nil {
			return
		}
		if e.call == "write" {
			e.offset = n.live
		}
		n.live = max(n.live, e.offset+int64(len(e.data)))
		n.pending = append(n.pending, e)
	case "ftruncate":
		n.pending, n.live = append(n.pending, e), e.size
	case "fsync", "fdatasync":
		switch {
		case e.feigned:
		case n != nil:
			n.sync()
		case d.dirs[e.fd]:
			d.names, d.changes = maps.Clone(d.live), nil
		}
	case "rename", "renameat", "renameat2":
		to := strings.TrimPrefix(e.to, d.dir+"/")
		d.rename(func(m map[string]*node) { m[to] = m[name]; delete(m, name) })
	case "unlink", "unlinkat":
		if mine {
			d.rename(func(m map[string]*node) { delete(m, name) })
		}
	}
}

func (n *node) sync() {
	for _, e := range n.pending {
		n.durable = apply(n.durable, e, func() bool { return true })
	}
	n.pending = nil
}

// apply writes the sectors of an event that survive.
func apply(content []byte, e event, survives func() bool) []byte {
	const sector = 512
	if e.call == "ftruncate" {
		if !survives() {
			return content
		}
		return resize(content, e.size)
	}
	for at := 0; at < len(e.data); at += sector {
		if end := min(at+sector, len(e.data)); survives() {
			from := e.offset + int64(at)
			content = resize(content, max(int64(len(content)), e.offset+int64(end)))
			copy(content[from:], e.data[at:end])
		}
	}
	return content
}

func resize(content []byte, size int64) []byte {
	if int64(len(content)) >= size {
		return content[:size]
	}
	return append(content, make([]byte, size-int64(len(content)))...)
}

// crash writes what a disk may hold after the power went into a directory.
func (d *disk) crash(t testing.TB, r *rand.Rand, into string) {
	t.Helper()
	names := maps.Clone(d.names)
	for _, change := range d.changes[:r.IntN(len(d.changes)+1)] {
		change(names)
	}
	odds := []float64{0, 0.2, 0.5, 0.8, 1}[r.IntN(5)]
	for name, n := range names {
		if n == nil {
			continue
		}
		content := slices.Clone(n.durable)
		for _, e := range n.pending {
			content = apply(content, e, func() bool { return r.Float64() < odds })
		}
		if err := os.WriteFile(filepath.Join(into, name), content, 0o600); err != nil {
			t.Fatal(fmt.Errorf("crash image: %w", err))
		}
	}
}
