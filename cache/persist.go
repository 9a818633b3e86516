package cache

import (
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// States of the store, in the words of the wire.
const (
	// StoreOK means that everything published is durable.
	StoreOK = "ok"
	// StoreBehind means that a commit is under way.
	StoreBehind = "behind"
	// StoreDegraded means that the last commit failed; serving goes on from
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
	// done is closed when everything that is waiting now is durable.
	done   chan struct{}
	wake   chan struct{}
	busy   bool
	failed error
}

func newPersister(s Store, c *conditions) *persister {
	return &persister{store: s, conditions: c, done: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// add queues a batch and returns a channel that is closed when it is durable.
func (p *persister) add(batch map[string]map[string][]byte) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	p.waiting = merge(p.waiting, batch)
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
	case p.busy || len(p.waiting) > 0:
		return StoreBehind
	}
	return StoreOK
}

// run commits until stop is closed, and then once more what still waits.
func (p *persister) run(stop <-chan struct{}) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, time.Minute
	var again <-chan time.Time
	for {
		select {
		case <-p.wake:
			if again != nil {
				// A broken disk is tried at the pace of the retries, not of the
				// changes.
				continue
			}
		case <-again:
		case <-stop:
			_ = p.commit()
			return
		}
		again = nil
		if p.commit() != nil {
			again = time.After(retry.NextBackOff())
		} else {
			retry.Reset()
		}
	}
}

// commit writes everything that waits.
func (p *persister) commit() error {
	p.mu.Lock()
	batch, done := p.waiting, p.done
	if len(batch) == 0 {
		p.mu.Unlock()
		return nil
	}
	p.waiting, p.done, p.busy = nil, make(chan struct{}), true
	p.mu.Unlock()

	err := p.store.Commit(batch)

	p.mu.Lock()
	p.busy, p.failed = false, err
	if err != nil {
		// Newer values win over the failed ones. Whoever waits for them gives
		// up by itself after its bound.
		p.waiting = merge(batch, p.waiting)
	} else {
		close(done)
	}
	p.mu.Unlock()

	p.report(err)
	return err
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
