package store

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// images makes crash images of a recorded writer and counts those that have
// lost what was acknowledged at that moment.
func images(t *testing.T, dir string, events []event, total int) (lost, early int64) {
	var losses, first atomic.Int64
	workers(t, total, func(t *testing.T, _ string, r *rand.Rand, share int) {
		for range share {
			// Half of the moments are in the first tenth, where files are made.
			moment := r.IntN(len(events) + 1)
			if r.IntN(2) == 0 {
				moment = r.IntN(len(events)/10 + 1)
				first.Add(1)
			}
			d := newDisk(dir)
			d.play(events[:moment])
			into, err := os.MkdirTemp(t.TempDir(), "image")
			if err != nil {
				t.Fatal(err)
			}
			d.crash(t, r, into)
			n, err := survivors(into)
			if err != nil || n < d.said.committed || n > d.said.committed+1 {
				losses.Add(1)
				t.Logf("moment %d: got batch %d, %v; want %d or the one after it", moment, n, err, d.said.committed)
			}
			_ = os.RemoveAll(into)
		}
	})
	return losses.Load(), first.Load()
}

// TestPowerLoss records every write and sync of a writer, from the first start
// on, and makes images of what a disk may hold if the power goes at some
// moment: all synced writes, and any sectors of the others.
func TestPowerLoss(t *testing.T) {
	dir := filepath.Join(privateTempDir(t), "store")
	batches := trials(60, 24)
	events, said := record(t, dir, batches)
	if said.err != nil || said.settled != batches {
		t.Fatalf("the writer ended at batch %d: %v", said.settled, said.err)
	}
	total := trials(1000, 60)
	lost, early := images(t, dir, events, total)
	t.Logf("%d crash images, %d of them of the first start, of %d events and %d batches: %d lost acknowledged records",
		total, early, len(events), said.settled, lost)
	if lost > 0 {
		t.Errorf("%d images lost what was acknowledged", lost)
	}
}

// TestPowerLossControl does the same to a writer whose syncs do nothing, which
// must lose something: otherwise the test above would prove nothing.
func TestPowerLossControl(t *testing.T) {
	dir := filepath.Join(privateTempDir(t), "store")
	events, said := record(t, dir, 12, "-e", "inject=fsync,fdatasync:retval=0")
	if said.err != nil {
		t.Fatal(said.err)
	}
	total := trials(100, 20)
	var lost int64
	t.Run("expected", func(t *testing.T) {
		// Losses are logged by the trials; here they are what is wanted.
		lost, _ = images(t, dir, events, total)
	})
	t.Logf("control without syncs: %d of %d crash images lost acknowledged records", lost, total)
	if lost == 0 {
		t.Error("no image lost anything: the images prove nothing")
	}
}

// TestFailedSyncIsNotRepeated makes syncs fail: none of their descriptors is
// synced again, because that would succeed without having written anything.
func TestFailedSyncIsNotRepeated(t *testing.T) {
	t.Setenv(envStubborn, "1")
	seen := 0
	for _, when := range []string{"6", "11..13", "24"} {
		dir := filepath.Join(privateTempDir(t), "store")
		events, said := record(t, dir, 12, "-e", "inject=fdatasync:error=EIO:when="+when)
		if said.err != nil || said.settled != 12 || said.failures == 0 {
			t.Errorf("%s: got batch %d after %d failures, %v; want 12 after some", when, said.settled, said.failures, said.err)
		}
		failed := map[int]bool{}
		for _, e := range events {
			switch {
			case e.call == "openat":
				delete(failed, e.fd)
			case e.call != "fdatasync" && e.call != "fsync":
			case failed[e.fd]:
				t.Errorf("%s: descriptor %d was synced again after a failure", when, e.fd)
			case e.failed:
				failed[e.fd] = true
				seen++
			}
		}
	}
	t.Logf("%d failed syncs, none repeated", seen)
}
