package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/connectd/connectd/intentions"
)

// Discoverer is a source that can tell where the instances of a service are.
// It is an optional ability of a Source.
type Discoverer interface {
	// Discover returns the answer to a lookup. Given an earlier answer it may
	// block until upstream knows better, at most about a minute. It is safe for
	// concurrent use.
	Discover(ctx context.Context, l Lookup, have *Discovered) (*Discovered, error)
}

// Lookup is a question about the instances of a service.
type Lookup struct {
	Service intentions.Service
	// Datacenter is empty for the upstream's own.
	Datacenter string
	// Mesh asks for instances that speak mTLS (native ones and proxies), else
	// for all.
	Mesh bool
	// Passing leaves out instances whose checks do not pass.
	Passing bool
}

// Discovered is the answer to a lookup. It is immutable.
type Discovered struct {
	// Body is the answer in the form of Consul's health routes.
	Body      json.RawMessage
	Instances []Instance
	// UpstreamIndex is upstream's own index of the answer, for its next call.
	UpstreamIndex uint64
}

// Instance is one place where a service can be reached.
type Instance struct {
	ID         string
	Node       string
	Address    string
	Port       int
	Datacenter string
	// Service is the mesh identity to expect there.
	Service intentions.Service
}

// DiscoveryPart is an answer with the index of its last change.
type DiscoveryPart struct {
	Index uint64
	*Discovered
}

// DiscoveryView is what is known of a lookup now.
type DiscoveryView struct {
	Part *DiscoveryPart
	// Age is the time since upstream confirmed the part.
	Age time.Duration
	// Changed is closed when the part is replaced.
	Changed <-chan struct{}
}

const (
	// maxLookups bounds the lookups that are remembered.
	maxLookups = 1000
	// lookupIdle is how long a lookup is kept current after it was last asked.
	lookupIdle = time.Minute
	// lookupRetry is the pause after a failed lookup.
	lookupRetry = 2 * time.Second
)

// ErrNoDiscovery means that the source cannot tell where services are.
var ErrNoDiscovery = errors.New("this upstream offers no discovery")

// discovery keeps lookups current while somebody asks for them.
type discovery struct {
	c      *Cache
	source Discoverer
	start  chan *lookupEntry

	mu      sync.Mutex // guards entries
	entries map[Lookup]*lookupEntry
}

type lookupEntry struct {
	lookup    Lookup
	part      atomic.Pointer[lookupView]
	confirmed confirmation

	mu       sync.Mutex // guards the rest
	lastUsed time.Time
	running  bool
	// tried is closed when the next attempt is over; lastErr is its result.
	tried   chan struct{}
	lastErr error
}

type lookupView struct {
	part    *DiscoveryPart
	changed chan struct{}
}

// found is an answer on its way through the keeper, which gives the index.
type found struct {
	entry *lookupEntry
	part  *DiscoveryPart
	done  chan struct{}
}

func newDiscovery(c *Cache) *discovery {
	source, _ := c.cfg.Source.(Discoverer)
	return &discovery{
		c: c, source: source, start: make(chan *lookupEntry), entries: map[Lookup]*lookupEntry{},
	}
}

// Discover returns what is known of a lookup, kept current for a minute after
// each call. A lookup that is not current is asked upstream first; if that
// fails, the last answer is returned with its age, or else the error.
func (c *Cache) Discover(ctx context.Context, l Lookup) (DiscoveryView, error) {
	d := c.discovery
	if d.source == nil {
		return DiscoveryView{}, ErrNoDiscovery
	}
	e, evicted := d.entry(l)
	if evicted != nil {
		if err := c.tell(ctx, message{found: &found{entry: evicted}}); err != nil {
			return DiscoveryView{}, err
		}
	}
	tried, starting := e.use(time.Now())
	if starting {
		select {
		case d.start <- e:
		case <-ctx.Done():
			return DiscoveryView{}, ctx.Err()
		}
	}
	if tried != nil {
		select {
		case <-tried:
		case <-ctx.Done():
			return DiscoveryView{}, ctx.Err()
		}
	}
	v := e.part.Load()
	if v.part == nil {
		return DiscoveryView{}, e.err()
	}
	return DiscoveryView{Part: v.part, Age: e.confirmed.age(time.Now()), Changed: v.changed}, nil
}

// entry returns the place of a lookup, and the one that had to make room.
func (d *discovery) entry(l Lookup) (e, evicted *lookupEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e = d.entries[l]; e != nil {
		return e, nil
	}
	if len(d.entries) >= maxLookups {
		evicted = d.oldest()
		delete(d.entries, evicted.lookup)
	}
	e = newLookupEntry(l)
	d.entries[l] = e
	return e, evicted
}

func newLookupEntry(l Lookup) *lookupEntry {
	e := &lookupEntry{lookup: l}
	e.part.Store(&lookupView{changed: make(chan struct{})})
	return e
}

func (d *discovery) oldest() *lookupEntry {
	var oldest *lookupEntry
	for _, e := range d.entries {
		if oldest == nil || e.used().Before(oldest.used()) {
			oldest = e
		}
	}
	return oldest
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
	e.running = now.Sub(e.lastUsed) < lookupIdle
	return !e.running
}

func (e *lookupEntry) show(p *DiscoveryPart) {
	old := e.part.Swap(&lookupView{part: p, changed: make(chan struct{})})
	close(old.changed)
}

// run starts the watches of lookups and waits for them.
func (d *discovery) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case e := <-d.start:
			g.Go(func() error { d.watch(ctx, e); return nil })
		case <-ctx.Done():
			return g.Wait()
		}
	}
}

// watch keeps one lookup current until nobody asks for it any more.
func (d *discovery) watch(ctx context.Context, e *lookupEntry) {
	// have is nil until upstream has answered once in this run: a restored
	// answer is never the basis of a blocking query.
	var have *Discovered
	for {
		got, err := d.source.Discover(ctx, e.lookup, have)
		if err == nil {
			err = d.record(ctx, e, got)
		}
		have = got
		e.over(err)
		if e.stopIfIdle(time.Now()) {
			return
		}
		if err == nil {
			continue
		}
		select {
		case <-time.After(lookupRetry):
		case <-ctx.Done():
			return
		}
	}
}

// record hands an answer to the keeper, which persists and shows it if it
// changed, and notes the confirmation.
func (d *discovery) record(ctx context.Context, e *lookupEntry, got *Discovered) error {
	if part := e.part.Load().part; part == nil || !bytes.Equal(part.Body, got.Body) {
		f := &found{entry: e, part: &DiscoveryPart{Discovered: got}, done: make(chan struct{})}
		if err := d.c.tell(ctx, message{found: f}); err != nil {
			return err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e.confirmed.set(time.Now())
	return nil
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
	k.put(bucketDiscovery, f.entry.lookup.key(), encode(discoveryRecord{
		Index: f.part.Index, Lookup: f.entry.lookup, Confirmed: time.Now().UTC(),
		Body: f.part.Body, Instances: f.part.Instances,
	}))
}

// key names a lookup in the store.
func (l Lookup) key() string { return string(encode(l)) }

// restore shows stored answers, to be used while upstream is away.
func (d *discovery) restore(records map[string][]byte) {
	for key, raw := range records {
		var r discoveryRecord
		if !d.c.keeper.decode("discovery/"+key, raw, &r) || len(d.entries) >= maxLookups {
			continue
		}
		e := newLookupEntry(r.Lookup)
		e.lastUsed = r.Confirmed
		e.part.Store(&lookupView{
			part: &DiscoveryPart{Index: r.Index, Discovered: &Discovered{
				Body: r.Body, Instances: r.Instances,
			}},
			changed: make(chan struct{}),
		})
		e.confirmed.set(r.Confirmed)
		d.entries[r.Lookup] = e
	}
}
