package connectdtest

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/intentions"
)

// TrustDomain and Datacenter are those of every service here.
const (
	TrustDomain = "connectd-test.consul"
	Datacenter  = "dc1"
)

const denyAfter = 72 * time.Hour

// Daemon answers on a socket as connectd does, as far as its clients ask. Any
// service has a leaf as soon as it is asked for.
type Daemon struct {
	t        TB
	socket   string
	server   *http.Server
	served   sync.WaitGroup
	gone     bool
	notReady bool
	age      time.Duration

	mu        sync.Mutex // guards everything below
	index     uint64
	changed   chan struct{}
	action    string
	rules     map[string][]intentions.Rule
	instances map[string][]connectd.Instance
	authority *authority
	// leaves has the leaf of each service that was asked for.
	leaves map[string]*connectd.Leaf
	// keys has their keys, which a connectd.Leaf does not show.
	keys map[string]string
}

func start(t TB, change func(*Daemon)) *Daemon {
	t.Helper()
	// The path of a socket has to be short, and a test's own directory is not.
	dir, err := os.MkdirTemp("", "cdt")
	if err != nil {
		t.Fatalf("directory of the test daemon: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a, err := newAuthority()
	if err != nil {
		t.Fatalf("authority of the test daemon: %v", err)
	}
	d := &Daemon{
		t: t, socket: filepath.Join(dir, "s"), index: uint64(time.Now().UnixMilli()), changed: make(chan struct{}),
		action: connectd.Deny, rules: map[string][]intentions.Rule{}, instances: map[string][]connectd.Instance{},
		authority: a, leaves: map[string]*connectd.Leaf{}, keys: map[string]string{},
	}
	change(d)
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatalf("socket of the test daemon: %v", err)
	}
	d.server = &http.Server{Handler: d.routes(), ReadHeaderTimeout: time.Minute}
	d.served.Go(func() { _ = d.server.Serve(l) })
	t.Cleanup(d.Stop)
	return d
}

// Stop ends the daemon, as a crash would.
func (d *Daemon) Stop() {
	_ = d.server.Close()
	d.served.Wait()
}

// Socket is the path to give to an application, in CONNECTD_SOCKET for
// instance.
func (d *Daemon) Socket() string { return d.socket }

// Source follows a service until the test ends. It ends the test if there is
// no snapshot within ten seconds.
func (d *Daemon) Source(service string, opts ...connectd.SourceOption) *connectd.Source {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	own := os.Geteuid()
	uid := uint32(own)
	opts = append([]connectd.SourceOption{
		connectd.WithConfig(connectd.Config{Socket: d.socket, TrustUID: &uid}),
		connectd.WithLogger(slog.New(slog.DiscardHandler)),
	}, opts...)
	s, err := connectd.NewSource(ctx, service, opts...)
	if err != nil {
		d.t.Fatalf("source of %s: %v", service, err)
	}
	d.t.Cleanup(s.Close)
	return s
}

// ID is the SPIFFE ID of a service here.
func ID(service string) string {
	return intentions.ID{TrustDomain: TrustDomain, Service: intentions.NewService(service), Datacenter: Datacenter}.String()
}

// Allow lets source reach destination, whatever applied before.
func (d *Daemon) Allow(source, destination string) {
	d.intend(source, destination, connectd.Allow, nil)
}

// Deny keeps source from destination, whatever applied before.
func (d *Daemon) Deny(source, destination string) { d.intend(source, destination, connectd.Deny, nil) }

// Permit lets those requests of source reach destination that the permissions
// allow.
func (d *Daemon) Permit(source, destination string, permissions ...intentions.Permission) {
	d.intend(source, destination, "", permissions)
}

func (d *Daemon) intend(source, destination, action string, permissions []intentions.Permission) {
	d.change(func() {
		rules := []intentions.Rule{{
			Precedence: 9, Source: intentions.NewService(source), Action: action, Permissions: permissions,
		}}
		for _, r := range d.rules[destination] {
			if r.Source.Name != source {
				rules = append(rules, r)
			}
		}
		d.rules[destination] = rules
	})
}

// Register makes an instance of a service discoverable.
func (d *Daemon) Register(service string, address net.Addr) {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		d.t.Fatalf("%v is no TCP address", address)
		return
	}
	d.change(func() {
		d.instances[service] = append(d.instances[service], connectd.Instance{
			ID: service, Node: "test", Address: tcp.IP.String(), Port: tcp.Port, Datacenter: Datacenter, SPIFFEID: ID(service),
		})
	})
}

// Rotate makes a new root. The old one stays in the bundle, and every leaf is
// signed anew.
func (d *Daemon) Rotate() {
	d.change(func() {
		if err := d.authority.rotate(); err != nil {
			d.t.Fatalf("rotate: %v", err)
		}
		clear(d.leaves)
	})
}

// change edits what is served and wakes those who wait.
func (d *Daemon) change(edit func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	edit()
	d.index++
	close(d.changed)
	d.changed = make(chan struct{})
}
