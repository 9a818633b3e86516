package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/consul"
	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// Options are what the caller of Run decides.
type Options struct {
	Version string
	Logger  hclog.Logger
	// Load reads the configuration again when the administrator asks for it or
	// Hangup delivers; nil where there is nothing to read.
	Load   func() (Config, error)
	Hangup <-chan os.Signal
	// Ready is called once both sockets accept connections.
	Ready func()
}

// drainFor bounds the time that open requests get at the end.
const drainFor = 5 * time.Second

// Run runs the daemon beside a Consul agent until ctx ends. A failure to start
// changes nothing.
func Run(ctx context.Context, c Config, o Options) error {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	source, err := newConsulSource(c, o.Logger)
	if err != nil {
		return err
	}
	if err := refuseOwnSocket(c, source.SocketPath()); err != nil {
		return err
	}
	maker, err := newRuleMaker(c)
	if err != nil {
		return err
	}
	rules, err := admissionOf(c, maker, uint32(os.Geteuid()))
	if err != nil {
		return err
	}
	return run(ctx, c, o, parts{
		source: source, upstream: source, name: source.Address(), maker: maker,
		admission: newAdmission(rules, c.Services, o.Logger.Named("admission")),
	})
}

// parts are what differs between a daemon on Consul and a development one.
type parts struct {
	source    cache.Source
	upstream  socketapi.Upstream
	name      string
	admission *admission
	maker     ruleMaker
	// settle, where it is set, waits before the daemon is announced.
	settle func(context.Context, *cache.Cache)
}

func newConsulSource(c Config, logger hclog.Logger) (*consul.Source, error) {
	return consul.New(consul.Config{
		Address: c.Consul.Address, TokenFile: c.Consul.TokenFile, ServiceTokenFiles: c.tokenFiles(),
		CAFile: c.Consul.CAFile, CAPath: c.Consul.CAPath,
		CertFile: c.Consul.CertFile, KeyFile: c.Consul.KeyFile, ServerName: c.Consul.ServerName,
		SignaturesPerSecond: c.Consul.SignaturesPerSecond, Logger: logger,
	})
}

// Check looks at everything in a configuration that can be judged without
// starting: the address, the files and the users that it names.
func Check(c Config) error {
	source, err := newConsulSource(c, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	if err := refuseOwnSocket(c, source.SocketPath()); err != nil {
		return err
	}
	maker, err := newRuleMaker(c)
	if err != nil {
		return err
	}
	r, err := maker.rules(c.Services)
	if err != nil {
		return err
	}
	if err := c.checkKey(); err != nil {
		return err
	}
	_, _, err = socketGroups(c)
	problems := []error{err}
	for _, x := range r.complaints {
		problems = append(problems, errors.New(x.Message))
	}
	for _, s := range c.Services {
		if s.Socket == nil {
			continue
		}
		if _, _, err := s.Socket.ids(); err != nil {
			problems = append(problems, fmt.Errorf("socket of service %q: %w", s.Name, err))
		}
	}
	return errors.Join(problems...)
}

// refuseOwnSocket refuses an upstream that is the daemon itself.
func refuseOwnSocket(c Config, upstream string) error {
	if upstream == "" {
		return nil
	}
	for _, own := range []string{c.Socket.Path, c.AdminPath()} {
		if sameFile(own, upstream) {
			return fmt.Errorf("consul address unix://%s is connectd's own socket; give the agent's "+
				"(is CONSUL_HTTP_ADDR set for an application?)", upstream)
		}
	}
	return nil
}

// sameFile tells two paths to one file, which need not exist yet: at the first
// start nothing listens on the daemon's own path.
func sameFile(a, b string) bool {
	if resolved(a) == resolved(b) {
		return true
	}
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// maxLinks bounds the symbolic links that are followed.
const maxLinks = 40

// resolved follows symbolic links as far as files exist.
func resolved(path string) string {
	for range maxLinks {
		if absolute, err := filepath.Abs(path); err == nil {
			path = absolute
		}
		dir, name := filepath.Split(path)
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			path = filepath.Join(real, name)
		}
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return path
}

// admissionOf follows the rules of the configuration; where there are no
// service blocks at all, the daemon's own user is admitted unless it is root.
func admissionOf(c Config, m ruleMaker, uid uint32) (*rules, error) {
	if len(c.Services) == 0 && uid != 0 && !namesNobody(uid) {
		return ownUser(uid), nil
	}
	return m.rules(c.Services)
}

// run opens the store, restores, listens, and only then watches.
func run(ctx context.Context, c Config, o Options, p parts) error {
	// A second daemon ends here, before it has touched anything.
	lock, err := socketapi.TakeLock(c.Socket.Path)
	if err != nil {
		return err
	}
	defer lock.Close()
	records, err := openStore(c, o.Logger)
	if err != nil {
		return err
	}
	defer records.Close()
	snapshots, err := cache.New(cache.Config{
		Source: p.source, Store: records, Logger: o.Logger, MaxStale: c.MaxStale,
		Default: configuredDefault(c.DefaultAction), Services: c.watched(), TrustDomain: c.Consul.TrustDomain,
	})
	if err != nil {
		return err
	}
	api := socketapi.Config{
		Cache: snapshots, Admission: p.admission, Upstream: p.upstream,
		UpstreamName: p.name, Version: o.Version, Pin: c.Pin, Logger: o.Logger,
		StoreKey: records.KeyLocation(),
	}
	admin := &office{
		admission: p.admission, maker: p.maker, load: o.Load, running: c, uid: uint32(os.Geteuid()),
		logger: o.Logger.Named("admission"),
	}
	api.Administration, api.Refusals, api.Limits = admin, &socketapi.Refusals{}, socketapi.NewLimits(0, 0)
	sockets, err := listen(ctx, c, lock)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	serve(ctx, g, socketapi.New(api), sockets.main, o.Logger)
	// The administrator's connections count for themselves: who fills the others
	// must not keep him out.
	api.Limits = nil
	serve(ctx, g, socketapi.NewAdmin(api), sockets.admin, o.Logger)
	o.Logger.Info("serving", "socket", c.Socket.Path, "upstream", p.name, "store", records.Path())
	if p.admission.current.Load().empty() {
		o.Logger.Warn("nobody is admitted: the configuration has no allow block, and the daemon runs as root")
	}
	g.Go(func() error { return snapshots.Run(ctx) })
	g.Go(func() error { return p.admission.Run(ctx, p.maker) })
	g.Go(func() error { return admin.Run(ctx, o.Hangup) })
	opened := make(chan struct{})
	g.Go(func() error { return newDoors(api, p.admission, o.Logger).Run(ctx, func() { close(opened) }) })
	<-opened
	if p.settle != nil {
		p.settle(ctx, snapshots)
	}
	if o.Ready != nil {
		o.Ready()
	}
	return g.Wait()
}

func configuredDefault(action string) *intentions.DefaultAction {
	if action == "" {
		return nil
	}
	return &intentions.DefaultAction{Allow: action == "allow", Origin: intentions.OriginConfig}
}

// socketGroups looks up who owns the two sockets; -1 is the daemon's own group.
func socketGroups(c Config) (main, admin int, err error) {
	if main, err = socketGroup("socket", c.Socket.Group); err != nil {
		return 0, 0, err
	}
	admin, err = socketGroup("admin", c.Admin.Group)
	return main, admin, err
}

func socketGroup(block, name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	id, err := groupID(name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", block, err)
	}
	return int(id), nil
}
