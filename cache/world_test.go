package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/intentions"
)

// script is a Source and a Discoverer that does what the test says.
type script struct {
	// discover answers lookups; nil refuses them.
	discover func(ctx context.Context, l Lookup, have *Discovered) (*Discovered, error)
}

// Run implements Source: the test itself publishes.
func (s *script) Run(ctx context.Context, _ Feed) error {
	<-ctx.Done()
	return nil
}

// Discover implements Discoverer.
func (s *script) Discover(ctx context.Context, l Lookup, have *Discovered) (*Discovered, error) {
	if s.discover == nil {
		return nil, errors.New("no script for this lookup")
	}
	return s.discover(ctx, l, have)
}

type records = map[string]map[string][]byte

// memory is a Store that can block and fail.
type memory struct {
	mu      sync.Mutex // guards the rest
	held    records
	commits []records
	fail    error
	// block holds a commit back until it is closed, settling the same.
	block, settling chan struct{}
}

func newMemory() *memory { return &memory{held: records{}} }

// Load implements Store.
func (m *memory) Load() (map[string]map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := records{}
	for bucket, list := range m.held {
		out[bucket] = maps.Clone(list)
	}
	return out, nil
}

// Commit implements Store.
func (m *memory) Commit(batch map[string]map[string][]byte) error {
	m.mu.Lock()
	block := m.block
	m.mu.Unlock()
	if block != nil {
		<-block
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits = append(m.commits, batch)
	if m.fail != nil {
		return m.fail
	}
	for bucket, list := range batch {
		for key, value := range list {
			if m.held[bucket] == nil {
				m.held[bucket] = map[string][]byte{}
			}
			if value == nil {
				delete(m.held[bucket], key)
			} else {
				m.held[bucket][key] = value
			}
		}
	}
	return nil
}

// Settle implements Store.
func (m *memory) Settle() error {
	m.mu.Lock()
	block := m.settling
	m.mu.Unlock()
	if block != nil {
		<-block
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fail
}

// stallSettling blocks settling until the function it returns is called.
func (m *memory) stallSettling() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	block := make(chan struct{})
	m.settling = block
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.settling = nil
		close(block)
	}
}

func (m *memory) breaks(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// stall blocks commits until the function it returns is called.
func (m *memory) stall() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	block := make(chan struct{})
	m.block = block
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.block = nil
		close(block)
	}
}

func (m *memory) tries() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.commits)
}

func (m *memory) record(bucket, key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[bucket][key]
}

// world is a cache that runs inside a synctest bubble.
type world struct {
	t      testing.TB
	c      *Cache
	source *script
	store  *memory
	log    *bytes.Buffer
	ctx    context.Context
	stop   func()
	root   *signer
}

// open runs a cache over a store until the test or stop ends it.
func open(t testing.TB, store *memory, options ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, source: &script{}, store: store, log: &bytes.Buffer{}}
	config := Config{
		Source: w.source, Store: store,
		Logger: hclog.New(&hclog.LoggerOptions{Output: w.log, Level: hclog.Debug}),
	}
	for _, o := range options {
		o(&config)
	}
	var err error
	if w.c, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.ctx = ctx
	ended := make(chan error, 1)
	go func() { ended <- w.c.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(w.stop)
	synctest.Wait()
	return w
}

// watching makes services configured.
func watching(names ...string) func(*Config) {
	return func(c *Config) {
		for _, n := range names {
			c.Services = append(c.Services, intentions.NewService(n))
		}
	}
}

// tell publishes without waiting for the disk.
func (w *world) tell(u Update) {
	w.t.Helper()
	if err := w.c.Publish(w.ctx, u); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

// fill gives every named service a bundle, a policy that allows "api", and a
// leaf.
func (w *world) fill(names ...string) {
	w.t.Helper()
	w.root = newSigner(w.t, "root one")
	w.tell(Update{
		Bundle: bundleOf(w.t, testDomain, w.root), Default: &intentions.DefaultAction{Origin: intentions.OriginACL},
		Datacenter: "dc1", Node: "n1",
	})
	for _, n := range names {
		w.tell(Update{Leaf: w.root.leaf(w.t, n, 72*time.Hour), Intentions: rowsFor(n, "api allow")})
	}
}

func (w *world) snapshot(name string) *Snapshot {
	w.t.Helper()
	s, _ := w.c.Snapshot(intentions.NewService(name))
	return s
}

// decide asks whether source may connect to the named service.
func (w *world) decide(source, name string) intentions.Decision {
	w.t.Helper()
	return w.snapshot(name).Decide(sourceID(source).String(), nil)
}

func sourceID(name string) intentions.ID {
	return intentions.ID{TrustDomain: testDomain, Service: intentions.NewService(name), Datacenter: "dc1"}
}

// rowsFor makes the rows of one destination: "source action" each.
func rowsFor(destination string, rules ...string) map[intentions.Service]json.RawMessage {
	list := []string{}
	for _, r := range rules {
		source, action, _ := strings.Cut(r, " ")
		precedence := intentions.Precedence(intentions.NewService(source), intentions.NewService(destination))
		list = append(list, fmt.Sprintf(`{"SourceNS":"default","SourceName":%q,"DestinationNS":"default",`+
			`"DestinationName":%q,"SourceType":"consul","Action":%q,"Precedence":%d}`, source, destination, action, precedence))
	}
	raw := "[" + strings.Join(list, ",") + "]"
	return map[intentions.Service]json.RawMessage{intentions.NewService(destination): json.RawMessage(raw)}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

var errKilled = errors.New("killed")
