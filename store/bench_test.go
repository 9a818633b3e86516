package store

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"testing"
)

// leaves is a store of n leaves as large as those of cache.
func leaves(n int) batch {
	b := batch{"leaf": {}, "policy": {}}
	for i := range n {
		value := make([]byte, 2500)
		_, _ = rand.Read(value)
		b["leaf"]["default/default/service-"+strconv.Itoa(i)] = value
	}
	return b
}

// BenchmarkOpen measures a start: the child process, all seals, the manifest.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{0, 1000, 2000} {
		b.Run(fmt.Sprintf("leaves-%d", n), func(b *testing.B) {
			dir := privateTempDir(b)
			s := mustOpen(b, dir)
			mustCommit(b, s, leaves(n))
			mustClose(b, s)
			b.ReportAllocs()
			for b.Loop() {
				s, err := Open(Config{Dir: dir})
				if err != nil || s.Opening().Records != n {
					b.Fatalf("got %d records, %v", s.Opening().Records, err)
				}
				_ = s.Close()
			}
		})
	}
}

// BenchmarkExamine measures the child process alone.
func BenchmarkExamine(b *testing.B) {
	dir := privateTempDir(b)
	s := mustOpen(b, dir)
	mustCommit(b, s, leaves(1000))
	path := s.Path()
	mustClose(b, s)
	for b.Loop() {
		if _, err := examine(path); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit measures one changed record among many, with its settling
// and without.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{10, 1000, 6000} {
		for _, settle := range []bool{false, true} {
			b.Run(fmt.Sprintf("records-%d/settle-%t", n, settle), func(b *testing.B) {
				s := mustOpen(b, privateTempDir(b))
				mustCommit(b, s, leaves(n))
				one := leaves(1)
				b.ReportAllocs()
				for b.Loop() {
					mustCommitOnly(b, s, one)
					if settle {
						if err := s.Settle(); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

// BenchmarkManifest measures what a commit of one record spends on it.
func BenchmarkManifest(b *testing.B) {
	set, err := newKeyset()
	if err != nil {
		b.Fatal(err)
	}
	seal, err := newSealed(set)
	if err != nil {
		b.Fatal(err)
	}
	all, err := each(leaves(6000), seal.seal)
	if err != nil {
		b.Fatal(err)
	}
	m, err := manifestOf(all)
	if err != nil {
		b.Fatal(err)
	}
	change := records{"leaf": {"default/default/service-1": all["leaf"]["default/default/service-1"]}}
	b.ReportAllocs()
	for b.Loop() {
		if m, err = m.with(change); err != nil {
			b.Fatal(err)
		}
		_ = m.record()
	}
}
