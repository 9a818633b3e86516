package cache

import (
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// States of the store, in the words of the wire.
const (
	// StoreOK means that everything published is durable and settled.
	StoreOK = "ok"
	// StoreBehind means that a commit or its settling is under way.
	StoreBehind = "behind"
	// StoreDegraded means that the last attempt failed; serving goes on from
	// memory.
	StoreDegraded = "degraded"
)

// persister commits batches in order, all that wait in one commit. A failed
// batch is kept and tried again together with what came since.
type persister struct {
	store      Store
	conditions *conditions

	mu      sync.Mutex // guards the rest
	waiting map[string]map[string][]byte
	// done is closed when everything that is waiting now is committed.
	done chan struct{}
	wake chan struct{}
	// settled is true while the store keeps everything that was added,
	// whatever happens next.
	settled bool
	failed  error
}

func newPersister(s Store, c *conditions) *persister {
	return &persister{store: s, conditions: c, done: make(chan struct{}), wake: make(chan struct{}, 1), settled: s == nil}
}

// add queues a batch and returns a channel that is closed when it is committed.
func (p *persister) add(batch map[string]map[string][]byte) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	p.waiting, p.settled = merge(p.waiting, batch), false
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return p.done
}

// merge lays newer over older; either may be nil.
func merge(older, newer map[string]map[string][]byte) map[string]map[string][]byte {
	if older == nil {
		older = map[string]map[string][]byte{}
	}
	for bucket, records := range newer {
		if older[bucket] == nil {
			older[bucket] = map[string][]byte{}
		}
		for key, value := range records {
			older[bucket][key] = value
		}
	}
	return older
}

// state reports whether everything published is durable.
func (p *persister) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.failed != nil:
		return StoreDegraded
	case !p.settled:
		return StoreBehind
	}
	return StoreOK
}

// run commits until stop is closed, and then once more what still waits. It
// begins by settling what an earlier process committed.
func (p *persister) run(stop <-chan struct{}) {
	if p.store == nil {
		<-stop
		return
	}
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, time.Minute
	for {
		var again <-chan time.Time
		wake := p.wake
		if p.commit() != nil {
			// A broken disk is tried at the pace of the retries, not of the
			// changes.
			again, wake = time.After(retry.NextBackOff()), nil
		} else {
			retry.Reset()
		}
		select {
		case <-wake:
		case <-again:
		case <-stop:
			_ = p.commit()
			return
		}
	}
}

// commit writes everything that waits, in one batch after the other, and then
// settles it. A batch that comes meanwhile settles the one before it, so only
// the last of a burst is settled on its own, and no publication waits for it.
func (p *persister) commit() error {
	var err error
	for batch, done := p.take(); len(batch) > 0 && err == nil; batch, done = p.take() {
		if err = p.store.Commit(batch); err != nil {
			p.putBack(batch)
			break
		}
		close(done)
	}
	if err == nil {
		err = p.store.Settle()
	}
	p.mu.Lock()
	p.failed = err
	p.settled = err == nil && len(p.waiting) == 0
	p.mu.Unlock()
	p.report(err)
	return err
}

func (p *persister) take() (batch map[string]map[string][]byte, done chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return nil, nil
	}
	batch, done = p.waiting, p.done
	p.waiting, p.done = nil, make(chan struct{})
	return batch, done
}

// putBack keeps a batch that failed. Newer values win over it. Whoever waits
// for it gives up by itself after its bound.
func (p *persister) putBack(batch map[string]map[string][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = merge(batch, p.waiting)
}

func (p *persister) report(err error) {
	x := Condition{Watch: WatchStore}
	if err != nil {
		x.Failure = &Failure{Kind: FailureStore, Message: fmt.Sprintf(
			"the store cannot be written, serving goes on from memory: %v", err)}
	}
	p.conditions.set(x)
}

// WatchStore is the condition of the disk.
const WatchStore = "store"
