package cache

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"
)

type lookupEntry struct {
	lookup Lookup
	part   atomic.Pointer[lookupView]

	mu       sync.Mutex // guards the rest
	lastUsed time.Time
	running  bool
	// evicted is set once the entry had to make room for another.
	evicted bool
	// tried is closed when the next attempt is over; lastErr is its result.
	tried   chan struct{}
	lastErr error
}

type lookupView struct {
	part    *DiscoveryPart
	changed chan struct{}
}

func newLookupEntry(l Lookup) *lookupEntry {
	e := &lookupEntry{lookup: l}
	e.part.Store(&lookupView{changed: make(chan struct{})})
	return e
}

func (e *lookupEntry) used() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastUsed
}

// use notes that the lookup was asked for. If nothing current is known it
// returns a channel to wait on, and whether the caller must start the watch.
func (e *lookupEntry) use(now time.Time) (tried <-chan struct{}, starting bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastUsed = now
	starting = !e.running
	if starting {
		e.running = true
		e.tried = make(chan struct{})
	}
	if starting || e.part.Load().part == nil {
		return e.tried, starting
	}
	return nil, false
}

func (e *lookupEntry) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lastErr == nil {
		return ErrStopped
	}
	return e.lastErr
}

// over notes the end of an attempt and wakes those who wait for it.
func (e *lookupEntry) over(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastErr = err
	close(e.tried)
	e.tried = make(chan struct{})
}

// stopIfIdle ends the watch when nobody asked for a while.
func (e *lookupEntry) stopIfIdle(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = now.Sub(e.lastUsed) < lookupIdle && !e.evicted
	return !e.running
}

func (e *lookupEntry) evict() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.evicted = true
}

func (e *lookupEntry) isEvicted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.evicted
}

func (e *lookupEntry) show(p *DiscoveryPart) {
	old := e.part.Swap(&lookupView{part: p, changed: make(chan struct{})})
	close(old.changed)
}

type discoveryRecord struct {
	Index     uint64
	Lookup    Lookup
	Confirmed time.Time
	Body      json.RawMessage
	Instances []Instance
}

// takeFound gives an answer its index; without a part it deletes the record of
// a lookup that had to make room.
func (k *keeper) takeFound(f *found) {
	if f.part == nil {
		k.put(bucketDiscovery, f.entry.lookup.key(), nil)
		return
	}
	f.part.Index = k.stamp()
	k.round.found = append(k.round.found, f)
	if f.entry.isEvicted() {
		return
	}
	k.put(bucketDiscovery, f.entry.lookup.key(), encode(discoveryRecord{
		Index: f.part.Index, Lookup: f.entry.lookup, Confirmed: time.Now().UTC(),
		Body: f.part.Body, Instances: f.part.Instances,
	}))
}

// key names a lookup in the store.
func (l Lookup) key() string { return string(encode(l)) }

// restore shows stored answers, to be used while upstream is away. It deletes
// those for which there is no room.
func (d *discovery) restore(records map[string][]byte, now time.Time) {
	for key, raw := range records {
		var r discoveryRecord
		if len(d.entries) >= maxLookups || !d.c.keeper.decode("discovery/"+key, raw, &r) {
			d.c.keeper.put(bucketDiscovery, key, nil)
			continue
		}
		part := &DiscoveryPart{Index: r.Index, Discovered: &Discovered{Body: r.Body, Instances: r.Instances}}
		part.confirmed.set(restored(r.Confirmed, now))
		e := newLookupEntry(r.Lookup)
		e.lastUsed = restored(r.Confirmed, now)
		e.part.Store(&lookupView{part: part, changed: make(chan struct{})})
		d.entries[r.Lookup] = e
	}
}
