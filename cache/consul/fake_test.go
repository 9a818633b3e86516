package consul

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// fake is a scripted agent: an HTTP server in memory, so that it works in a
// bubble of synctest. It follows Consul's rules of blocking, and script
// replaces any answer by a fault that a real agent does not produce on demand.
type fake struct {
	t  testing.TB
	ca *authority

	mu      sync.Mutex // guards the rest
	changed chan struct{}
	seen    []seen
	// holding counts blocking queries under way, conns open connections.
	// matching is how many of the held are for intentions.
	holding, matching, conns int
	// link is shared by all connections since cut was last called.
	link *atomic.Bool
	// abandoned counts how often blocked queries were all answered at once.
	abandoned int
	script    func(w http.ResponseWriter, r *http.Request) bool

	roots      string
	rootsIndex uint64
	rows       map[string]string
	rowsIndex  uint64
	leaves     map[string]string
	leafIndex  map[string]uint64
	nextLeaf   uint64
	leafLife   time.Duration
	services   string
	self       string
	authorize  string
	leader     func(w http.ResponseWriter, r *http.Request)
	health     string
	mesh       string
}

// seen is one request as the agent saw it.
type seen struct {
	at          time.Time
	method      string
	path, token string
	query       url.Values
}

const selfACLsOff = `{"Config":{"Datacenter":"dc1","NodeName":"n1"},"DebugConfig":{"DefaultIntentionPolicy":"",` +
	`"ACLsEnabled":false,"ACLResolverSettings":{"ACLDefaultPolicy":"allow"}}}`

func newFake(t testing.TB) *fake {
	ca := newAuthority(t, "one")
	return &fake{
		t: t, ca: ca, changed: make(chan struct{}),
		roots: rootsBody(ca), rootsIndex: 5,
		rows: map[string]string{}, rowsIndex: 10,
		leaves: map[string]string{}, leafIndex: map[string]uint64{}, nextLeaf: 100, leafLife: time.Hour,
		services: "{}", self: selfACLsOff, health: "[]",
		authorize: `{"Authorized":false,"Reason":"Default behavior configured by ACLs"}`,
		leader: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("ns") {
				http.Error(w, `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`, 400)
				return
			}
			io.WriteString(w, `"127.0.0.1:8300"`)
		},
	}
}

// change edits the agent's state and wakes blocking queries.
func (f *fake) change(edit func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit()
	close(f.changed)
	f.changed = make(chan struct{})
}

// answer replaces the answers to paths with this prefix.
func (f *fake) answer(prefix string, how http.HandlerFunc) {
	f.change(func() {
		f.script = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, prefix) {
				return false
			}
			how(w, r)
			return true
		}
	})
}

// heal ends all scripted faults.
func (f *fake) heal() { f.change(func() { f.script = nil }) }

// say writes one answer with an index header as given.
func say(w http.ResponseWriter, status int, index, body string) {
	if index != "" {
		w.Header().Set("X-Consul-Index", index)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	held := r.URL.Query().Get("index") != ""
	f.mu.Lock()
	f.seen = append(f.seen, seen{
		time.Now(), r.Method, r.URL.Path, r.Header.Get("X-Consul-Token"), r.URL.Query(),
	})
	script := f.script
	if held {
		f.count(r, 1)
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.count(r, -1)
		}()
	}
	f.mu.Unlock()
	if script == nil || !script(w, r) {
		f.serve(w, r)
	}
}

// count is called with the lock held.
func (f *fake) count(r *http.Request, by int) {
	f.holding += by
	if r.URL.Path == matchPath {
		f.matching += by
	}
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	name, isLeaf := strings.CutPrefix(r.URL.Path, leafPath)
	switch {
	case isLeaf:
		f.block(w, r, func() (uint64, string) { return f.leafOf(name) })
	case r.URL.Path == rootsPath, r.URL.Path == agentRootsPath:
		f.block(w, r, func() (uint64, string) { return f.rootsIndex, f.roots })
	case r.URL.Path == matchPath:
		f.block(w, r, func() (uint64, string) { return f.rowsIndex, f.matchBody(r.URL.Query()["name"]) })
	case r.URL.Path == servicesPath:
		f.plain(w, func() string { return f.services })
	case r.URL.Path == selfPath:
		f.plain(w, func() string { return f.self })
	case r.URL.Path == authorizePath:
		f.plain(w, func() string { return f.authorize })
	case r.URL.Path == leaderPath:
		f.leader(w, r)
	case strings.HasPrefix(r.URL.Path, "/v1/health/"):
		f.block(w, r, func() (uint64, string) { return 20, f.health })
	case r.URL.Path == meshPath && f.mesh == "":
		say(w, 404, "7", `Config entry not found for "mesh" / "mesh"`)
	case r.URL.Path == meshPath:
		f.plain(w, func() string { return f.mesh })
	default:
		http.NotFound(w, r)
	}
}

func (f *fake) plain(w http.ResponseWriter, read func() string) {
	f.mu.Lock()
	body := read()
	f.mu.Unlock()
	say(w, 200, "", body)
}

// block answers once the index is above the one asked with, or at the end of
// the wait.
func (f *fake) block(w http.ResponseWriter, r *http.Request, read func() (uint64, string)) {
	asked, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	length, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	end := time.NewTimer(length)
	defer end.Stop()
	f.mu.Lock()
	abandoned := f.abandoned
	f.mu.Unlock()
	for over := false; ; {
		f.mu.Lock()
		over = over || abandoned != f.abandoned
		index, body := read()
		changed := f.changed
		f.mu.Unlock()
		if asked == 0 || index > asked || over {
			say(w, 200, strconv.FormatUint(index, 10), body)
			return
		}
		select {
		case <-changed:
		case <-end.C:
			over = true
		case <-r.Context().Done():
			return
		}
	}
}

// leafOf returns a leaf as the agent does: signed at the first request, after
// a rotation, and past 90 % of its life.
func (f *fake) leafOf(name string) (uint64, string) {
	body := f.leaves[name]
	if body == "" || f.stale(name, body) {
		f.nextLeaf++
		body = f.ca.leaf(name, f.nextLeaf, lasting(f.leafLife))
		f.leaves[name], f.leafIndex[name] = body, f.nextLeaf
	}
	return f.leafIndex[name], body
}

func (f *fake) stale(name, body string) bool {
	var in leafAnswer
	if err := json.Unmarshal([]byte(body), &in); err != nil {
		f.t.Fatal(err)
	}
	l := must(cache.ParseLeaf(intentions.NewService(name), in.CertPEM, cache.NewSecret(in.PrivateKeyPEM)))(f.t)
	return l.AuthorityKeyID != f.ca.keyID() || l.Spent(time.Now()) >= 0.9
}

func (f *fake) matchBody(names []string) string {
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%q:%s", name, cmp.Or(f.rows[name], "null")))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// intend replaces a destination's rows.
func (f *fake) intend(destination string, list ...string) {
	f.change(func() {
		f.rowsIndex++
		f.rows[destination] = rows(list...)
		if len(list) == 0 {
			delete(f.rows, destination)
		}
	})
}

// rotate makes a new authority active.
func (f *fake) rotate(id string) {
	next := newAuthority(f.t, id)
	f.change(func() {
		f.roots, f.rootsIndex = rootsBody(next, f.ca), f.rootsIndex+10
		f.ca = next
	})
}

// requests lists what was asked for on paths with a prefix since a moment.
func (f *fake) requests(prefix string, since time.Time) []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []seen
	for _, s := range f.seen {
		if strings.HasPrefix(s.path, prefix) && !s.at.Before(since) {
			out = append(out, s)
		}
	}
	return out
}

// listen serves until the test ends and returns how to dial.
func (f *fake) listen(serve func(*http.Server, net.Listener) error) func(context.Context, string, string) (net.Conn, error) {
	l := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: f, ErrorLog: nil}
	done := make(chan error)
	go func() { done <- serve(server, l) }()
	f.t.Cleanup(func() {
		server.Close()
		<-done
	})
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case l.conns <- theirs:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.conns++
		if f.link == nil {
			f.link = new(atomic.Bool)
		}
		return &countedConn{Conn: ours, dead: f.link, gone: sync.OnceFunc(func() {
			f.mu.Lock()
			f.conns--
			f.mu.Unlock()
		})}, nil
	}
}

type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// countedConn can also be dead: what is sent then is lost, and nothing comes.
type countedConn struct {
	net.Conn
	gone func()
	dead *atomic.Bool
}

func (c *countedConn) Write(b []byte) (int, error) {
	if c.dead.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *countedConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.dead.Load() {
			return n, err
		}
	}
}

func (c *countedConn) Close() error {
	c.gone()
	return c.Conn.Close()
}

// cut makes all present connections dead without closing them, as a link does
// that goes down; new ones work.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link.Store(true)
	f.link = nil
}

// open returns the blocking queries and the connections under way, once all
// has settled.
func (f *fake) open() (holding, conns int) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holding, f.conns
}

// source makes a source whose connections end at the fake.
func (f *fake) source(c Config) *Source {
	f.t.Helper()
	c.Address = "http://127.0.0.1:8500"
	s := must(New(c))(f.t)
	dial := f.listen((*http.Server).Serve)
	for _, client := range []*http.Client{s.held, s.short} {
		client.Transport.(*http.Transport).DialContext = dial
	}
	return s
}

// run runs a source until the test ends.
func (f *fake) run(s *Source, wants ...cache.Want) *feed {
	return f.runPart(s.Run, wants)
}

// runLeaves runs only what leaves need, so that days pass quickly.
func (f *fake) runLeaves(s *Source, wants ...cache.Want) *feed {
	return f.runPart(func(ctx context.Context, to cache.Feed) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return s.watchRoots(ctx, to) })
		g.Go(func() error { return newLeaves(s, to).run(ctx) })
		defer s.held.CloseIdleConnections()
		defer s.short.CloseIdleConnections()
		return g.Wait()
	}, wants)
}

func (f *fake) runPart(part func(context.Context, cache.Feed) error, wants []cache.Want) *feed {
	to := newFeed()
	to.want(wants...)
	ctx, stop := context.WithCancel(f.t.Context())
	done := make(chan error)
	go func() { done <- part(ctx, to) }()
	f.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			f.t.Errorf("run: %v", err)
		}
	})
	return to
}

// pass lets the time of the bubble go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// tally counts requests by path.
func tally(list []seen) string {
	count := map[string]int{}
	for _, s := range list {
		count[s.path]++
	}
	var out []string
	for _, path := range slices.Sorted(maps.Keys(count)) {
		out = append(out, fmt.Sprintf("%s: %d", path, count[path]))
	}
	return strings.Join(out, ", ")
}
