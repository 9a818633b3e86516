package cache

import (
	"context"
	"maps"
	"time"

	"github.com/connectd/connectd/intentions"
)

// publish makes the round durable, or gives the disk its 25 ms, and then shows
// it to readers and wakes those it concerns.
func (k *keeper) publish(ctx context.Context) {
	r := k.round
	k.round = newRound()
	if r.stamped {
		k.index++
		k.addTo(r.batch, bucketMeta, keyIndex, encode(k.index))
	}
	if len(r.batch) > 0 {
		k.waitForDisk(ctx, k.c.persister.add(r.batch))
	}
	k.overview.index = k.index
	current := k.overview
	k.c.overall.Store(&current)
	if r.bundle {
		old := k.c.bundle.Swap(&bundleView{part: k.bundle, changed: make(chan struct{})})
		close(old.changed)
	}
	if r.set {
		k.publishSet()
	}
	k.publishSnapshots(r.dirty)
	if r.set || r.leaves {
		k.publishWanted(r.set)
	}
	for _, f := range r.found {
		f.entry.show(f.part)
		close(f.done)
	}
	for _, a := range r.answers {
		a.to <- a.err
	}
}

func (k *keeper) addTo(batch map[string]map[string][]byte, bucket, key string, value []byte) {
	if batch[bucket] == nil {
		batch[bucket] = map[string][]byte{}
	}
	batch[bucket][key] = value
}

// waitForDisk never lets a slow or broken disk hold back a deny.
func (k *keeper) waitForDisk(ctx context.Context, done <-chan struct{}) {
	if k.c.persister.state() == StoreDegraded {
		return
	}
	late := time.NewTimer(publishAfter)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	case <-ctx.Done():
	}
}

// publishSet replaces the map of entries after the watched set changed. The
// entries themselves stay, so that nobody who waits on one is lost.
func (k *keeper) publishSet() {
	old := *k.c.services.Load()
	next := make(map[intentions.Service]*entry, len(k.members))
	for s := range k.members {
		if next[s] = old[s]; next[s] == nil {
			next[s] = k.newEntry(s)
		}
	}
	k.c.services.Store(&next)
	for s, e := range old {
		if next[s] == nil {
			close(e.view.Load().changed)
		}
	}
}

func (k *keeper) newEntry(s intentions.Service) *entry {
	e := &entry{service: s}
	e.view.Store(&view{snapshot: k.snapshot(e), changed: make(chan struct{})})
	return e
}

func (k *keeper) snapshot(e *entry) *Snapshot {
	s := &Snapshot{
		Service:   e.service,
		Leaf:      k.leaves[e.service],
		Bundle:    k.bundle,
		Policy:    k.policies[e.service],
		WantsLeaf: k.members[e.service].wantsLeaf(),
		cache:     k.c,
	}
	if s.Leaf != nil {
		s.Index = max(s.Index, s.Leaf.Index)
	}
	if s.Bundle != nil {
		s.Index = max(s.Index, s.Bundle.Index)
	}
	if s.Policy != nil {
		s.Index = max(s.Index, s.Policy.Index)
	}
	return s
}

func (k *keeper) publishSnapshots(dirty map[intentions.Service]bool) {
	services := *k.c.services.Load()
	for s := range dirty {
		e := services[s]
		m := k.members[s]
		if e == nil || m == nil {
			continue
		}
		e.askedLeaf.Store(m.askedLeaf.Unix())
		e.askedPolicy.Store(m.askedPolicy.Unix())
		old := e.view.Swap(&view{snapshot: k.snapshot(e), changed: make(chan struct{})})
		close(old.changed)
	}
}

// publishWanted tells the source about the watched set; it is woken only when
// the set itself changed, because the leaves are its own work.
func (k *keeper) publishWanted(wake bool) {
	wants := make([]Want, 0, len(k.members))
	for s, m := range maps.All(k.members) {
		w := Want{Service: s, Leaf: m.wantsLeaf()}
		if part := k.leaves[s]; part != nil {
			w.Have = part.Leaf
		}
		wants = append(wants, w)
	}
	sortWants(wants)
	old := k.c.wanted.Load()
	next := &wantedView{wants: wants, changed: old.changed}
	if wake {
		next.changed = make(chan struct{})
	}
	k.c.wanted.Store(next)
	if wake {
		close(old.changed)
	}
}
