package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
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

	confirmed confirmation
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
	// lookupPatience is how long a known answer is held back for a newer one.
	lookupPatience = 2 * time.Second
)

// ErrNoDiscovery means that the source cannot tell where services are.
var ErrNoDiscovery = errors.New("this upstream offers no discovery")

// discovery keeps lookups current while somebody asks for them.
type discovery struct {
	c      *Cache
	source Discoverer
	wake   chan struct{}

	mu      sync.Mutex // guards the rest; taken before that of an entry
	entries map[Lookup]*lookupEntry
	// starting are the entries whose watch has to start.
	starting []*lookupEntry
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
		c: c, source: source, wake: make(chan struct{}, 1), entries: map[Lookup]*lookupEntry{},
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
		d.begin(e)
	}
	if tried != nil {
		if err := c.awaitLookup(ctx, e, tried); err != nil {
			return DiscoveryView{}, err
		}
	}
	v := e.part.Load()
	if v.part == nil {
		return DiscoveryView{}, e.err()
	}
	return DiscoveryView{Part: v.part, Age: v.part.confirmed.age(time.Now()), Changed: v.changed}, nil
}

// awaitLookup waits for the end of an attempt, but for a moment only where an
// answer is known: an upstream that says nothing at all must not take it away.
func (c *Cache) awaitLookup(ctx context.Context, e *lookupEntry, tried <-chan struct{}) error {
	var enough <-chan time.Time
	if e.part.Load().part != nil {
		patience := time.NewTimer(lookupPatience)
		defer patience.Stop()
		enough = patience.C
	}
	select {
	case <-tried:
	case <-enough:
	case <-c.ended:
		if e.part.Load().part == nil {
			return ErrStopped
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// begin has the watch of an entry started. It never waits: the caller may go
// away, and others wait for the same watch.
func (d *discovery) begin(e *lookupEntry) {
	d.mu.Lock()
	d.starting = append(d.starting, e)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *discovery) toStart() []*lookupEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.starting
	d.starting = nil
	return list
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
		evicted.evict()
	}
	e = newLookupEntry(l)
	e.lastUsed = time.Now()
	d.entries[l] = e
	return e, evicted
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

// run starts the watches of lookups and waits for them.
func (d *discovery) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case <-d.wake:
			for _, e := range d.toStart() {
				g.Go(func() error { d.watch(ctx, e); return nil })
			}
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
		if ctx.Err() != nil {
			err = ErrStopped
		}
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

// record notes the confirmation of an answer, and hands one that changed to
// the keeper, which persists and shows it.
func (d *discovery) record(ctx context.Context, e *lookupEntry, got *Discovered) error {
	if part := e.part.Load().part; part != nil && bytes.Equal(part.Body, got.Body) {
		part.confirmed.set(time.Now())
		return nil
	}
	f := &found{entry: e, part: &DiscoveryPart{Discovered: got}, done: make(chan struct{})}
	f.part.confirmed.set(time.Now())
	if err := d.c.tell(ctx, message{found: f}); err != nil {
		return err
	}
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
