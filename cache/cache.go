package cache

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/connectd/connectd/intentions"
)

// Defaults of Config.
const (
	DefaultMaxStale    = 72 * time.Hour
	DefaultMaxServices = 2000
)

// Config is what a cache needs. It is copied.
type Config struct {
	Source Source
	// Store makes what is published durable; nil keeps everything in memory.
	Store  Store
	Logger hclog.Logger
	// MaxStale is the age past which every decision is deny.
	MaxStale time.Duration
	// Default is the configured default action; nil leaves it to the source.
	Default *intentions.DefaultAction
	// Services are watched whether or not anyone asks.
	Services []intentions.Service
	// TrustDomain is the only one accepted; empty accepts the first one seen.
	TrustDomain string
	MaxServices int
}

// Store keeps records. It is given and returns bytes by bucket and key; a nil
// value in a batch deletes. Commit returns when the batch is in the file, which
// is enough to publish it. Settle returns when what was committed survives
// even a torn write of the last transaction; it is called when nothing waits
// to be committed, first at the start, and says whether the store can be
// written at all. A batch that failed is committed again.
type Store interface {
	Load() (map[string]map[string][]byte, error)
	Commit(batch map[string]map[string][]byte) error
	Settle() error
}

// Cache holds the snapshots of all watched services. Reading takes one atomic
// load; one goroutine writes.
type Cache struct {
	cfg    Config
	logger hclog.Logger

	services atomic.Pointer[map[intentions.Service]*entry]
	bundle   atomic.Pointer[bundleView]
	wanted   atomic.Pointer[wantedView]
	overall  atomic.Pointer[overview]

	conditions conditions
	discovery  *discovery

	mail chan message
	// ended is closed when nobody reads mail any more.
	ended     chan struct{}
	keeper    *keeper
	persister *persister
}

// entry is the place of one watched service. Its view changes; its service
// does not.
type entry struct {
	service intentions.Service
	view    atomic.Pointer[view]
	// askedLeaf and askedPolicy are the Unix seconds at which the keeper last
	// heard that a caller asked for the service.
	askedLeaf, askedPolicy atomic.Int64
}

// view is a snapshot and the channel that is closed when it is replaced.
type view struct {
	snapshot *Snapshot
	changed  chan struct{}
}

type bundleView struct {
	part    *BundlePart
	changed chan struct{}
}

type wantedView struct {
	wants   []Want
	changed chan struct{}
}

// overview is what the cache knows beyond single services.
type overview struct {
	index            uint64
	datacenter, node string
	fallback         intentions.DefaultAction
	fallbackKnown    bool
	normalization    intentions.Normalization
	local            []LocalService
}

// message is what the keeper is told: an update, a caller's request, or the
// answer to a lookup. One of them is set.
type message struct {
	update *Update
	ask    *ask
	found  *found
}

// Errors of reading.
var (
	// ErrTooManyServices means that the watched set is full.
	ErrTooManyServices = errors.New("too many services are watched on this host")
	// ErrTooManyNewNames means that one user asked for too many new services.
	ErrTooManyNewNames = errors.New("too many new services were asked for; wait a minute")
	// ErrStopped means that the cache no longer runs.
	ErrStopped = errors.New("the daemon is stopping")
)

// New restores what the store holds and returns a cache that can be read at
// once. Run keeps it current. A store that cannot be read is an error.
func New(cfg Config) (*Cache, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.MaxStale == 0 {
		cfg.MaxStale = DefaultMaxStale
	}
	if cfg.MaxServices == 0 {
		cfg.MaxServices = DefaultMaxServices
	}
	cfg.TrustDomain = strings.ToLower(cfg.TrustDomain)
	c := &Cache{
		cfg: cfg, logger: cfg.Logger.Named("cache"),
		mail: make(chan message, 64), ended: make(chan struct{}),
	}
	c.services.Store(&map[intentions.Service]*entry{})
	c.bundle.Store(&bundleView{changed: make(chan struct{})})
	c.wanted.Store(&wantedView{changed: make(chan struct{})})
	c.overall.Store(&overview{})
	c.conditions.logger = c.logger
	c.persister = newPersister(cfg.Store, &c.conditions)
	c.discovery = newDiscovery(c)
	c.keeper = newKeeper(c)
	if err := c.keeper.restore(); err != nil {
		return nil, err
	}
	return c, nil
}

// Run keeps the cache current until ctx ends, then makes what was published
// durable and returns. It is called once.
func (c *Cache) Run(ctx context.Context) error {
	var persisting sync.WaitGroup
	stopPersister := make(chan struct{})
	persisting.Go(func() { c.persister.run(stopPersister) })
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.keeper.run(ctx) })
	g.Go(func() error { return c.discovery.run(ctx) })
	g.Go(func() error { return c.cfg.Source.Run(ctx, c) })
	err := g.Wait()
	close(stopPersister)
	persisting.Wait()
	return err
}

// Snapshot returns the current snapshot of a watched service and a channel
// that is closed when it is replaced. A service that is not watched has
// neither.
func (c *Cache) Snapshot(s intentions.Service) (*Snapshot, <-chan struct{}) {
	e := (*c.services.Load())[s]
	if e == nil {
		return nil, nil
	}
	v := e.view.Load()
	return v.snapshot, v.changed
}

// Bundle returns the trust bundle, nil before the first, and a channel that is
// closed when it is replaced.
func (c *Cache) Bundle() (*BundlePart, <-chan struct{}) {
	v := c.bundle.Load()
	return v.part, v.changed
}

// BundleAge is the time since upstream confirmed the bundle.
func (c *Cache) BundleAge(now time.Time) time.Duration {
	part, _ := c.Bundle()
	if part == nil {
		return never
	}
	return part.confirmed.age(now)
}

// MaxStale is the age past which every decision is deny.
func (c *Cache) MaxStale() time.Duration { return c.cfg.MaxStale }

// Datacenter names where the upstream is; empty while unknown.
func (c *Cache) Datacenter() string { return c.overall.Load().datacenter }

// Index is the daemon-wide counter.
func (c *Cache) Index() uint64 { return c.overall.Load().index }

// Default returns the default action that is in force.
func (c *Cache) Default() intentions.DefaultAction { return c.overall.Load().fallback }

// Publish implements Feed.
func (c *Cache) Publish(ctx context.Context, u Update) error {
	return c.tell(ctx, message{update: &u})
}

func (c *Cache) tell(ctx context.Context, m message) error {
	select {
	case c.mail <- m:
		return nil
	case <-c.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Wanted implements Feed.
func (c *Cache) Wanted() ([]Want, <-chan struct{}) {
	v := c.wanted.Load()
	return v.wants, v.changed
}
