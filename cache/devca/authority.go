package devca

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// TrustDomain is fixed and unlike any of Consul's, which are <uuid>.consul, so
// that nothing issued here is mistaken for production.
const TrustDomain = "connectd-development.consul"

// Defaults and limits of Config.
const (
	DefaultDatacenter   = "dc1"
	DefaultLeafLifetime = 72 * time.Hour
	MinLeafLifetime     = time.Minute
)

// Config is what an authority needs. It is copied.
type Config struct {
	// Dir is a directory of .hcl and .json files with intentions and service
	// definitions in Consul's formats, read again when they change.
	Dir string
	// Intentions is the content to start with where there is no Dir: the text
	// of files in the same formats, by name.
	Intentions map[string]string
	// Services are registered on this host as native, beside those of files.
	Services   []Service
	Datacenter string
	// LeafLifetime is the time between the dates of a leaf. A leaf is renewed
	// after 60 % of it.
	LeafLifetime time.Duration
	// Default applies when no intention matches. Its zero value denies.
	Default intentions.DefaultAction
	Logger  hclog.Logger
}

// Authority signs leaves, keeps intentions and knows the local services. It is
// a cache.Source and a cache.Discoverer, and safe for concurrent use.
type Authority struct {
	cfg    Config
	logger hclog.Logger
	signer *signer

	reading sync.Mutex // guards dir; held before mu
	dir     directory

	mu    sync.Mutex // guards state; held before signer.mu
	state *state
}

// state is what an authority says at one moment. It is immutable, but for the
// channel that is closed when another takes its place.
type state struct {
	bundle *cache.Bundle
	// signing is the active root of the bundle.
	signing  *root
	content  content
	services []registered
	// failure is why the last change of the directory was refused.
	failure *cache.Failure
	changed chan struct{}
}

// New makes an authority with a new root. Content that Consul would refuse is
// an error.
func New(cfg Config) (*Authority, error) {
	if cfg.Datacenter == "" {
		cfg.Datacenter = DefaultDatacenter
	}
	if cfg.LeafLifetime == 0 {
		cfg.LeafLifetime = DefaultLeafLifetime
	}
	if cfg.Default.Origin == "" {
		cfg.Default.Origin = intentions.OriginConfig
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("new development authority: %w", err)
	}
	s, err := newSigner(cfg.Datacenter, cfg.LeafLifetime)
	if err != nil {
		return nil, fmt.Errorf("new development authority: %w", err)
	}
	a := &Authority{cfg: cfg, logger: cfg.Logger.Named("devca"), signer: s, dir: directory{path: cfg.Dir}}
	if err := a.start(); err != nil {
		return nil, fmt.Errorf("new development authority: %w", err)
	}
	a.logger.Warn("development authority: not for production", "trust_domain", TrustDomain)
	return a, nil
}

func (cfg *Config) check() error {
	if cfg.LeafLifetime < MinLeafLifetime {
		return fmt.Errorf("leaf lifetime %s is too short; use at least %s", cfg.LeafLifetime, MinLeafLifetime)
	}
	if !intentions.ValidName(cfg.Datacenter) {
		return fmt.Errorf("datacenter %q is not a name; use letters, digits, dashes and underscores", cfg.Datacenter)
	}
	if cfg.Dir != "" && len(cfg.Intentions) > 0 {
		return errDirectory
	}
	return nil
}

// start fills the first state.
func (a *Authority) start() error {
	files := a.cfg.Intentions
	if a.cfg.Dir != "" {
		var err error
		if files, _, err = a.dir.read(time.Now()); err != nil {
			return err
		}
	}
	bundle, signing, err := a.signer.bundle()
	if err != nil {
		return err
	}
	a.state = &state{bundle: bundle, signing: signing, changed: make(chan struct{})}
	if err := a.load(files); err != nil {
		return err
	}
	for _, s := range a.cfg.Services {
		if err := a.AddService(s); err != nil {
			return err
		}
	}
	return nil
}

// current returns what the authority says now.
func (a *Authority) current() *state {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// change puts a changed copy in place and wakes those who wait. a.mu is held.
func (a *Authority) change(edit func(s *state)) {
	old := a.state
	next := *old
	next.changed = make(chan struct{})
	edit(&next)
	a.state = &next
	close(old.changed)
}

// Rotate makes a new root active. The old one stays in the bundle until it has
// been out of use for twice the lifetime of a leaf.
func (a *Authority) Rotate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("rotate root: %w", err)
	}
	if err := a.rotate(time.Now()); err != nil {
		return fmt.Errorf("rotate root: %w", err)
	}
	a.logger.Info("rotated the development root", "root", a.current().bundle.ActiveRootID)
	return nil
}

func (a *Authority) rotate(now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.signer.rotate(now); err != nil {
		return err
	}
	return a.showBundle()
}

// prune drops roots that are no longer needed from the bundle.
func (a *Authority) prune(now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.signer.prune(now) {
		return nil
	}
	return a.showBundle()
}

// showBundle shows the signer's roots. a.mu is held.
func (a *Authority) showBundle() error {
	bundle, signing, err := a.signer.bundle()
	if err != nil {
		return err
	}
	a.change(func(s *state) { s.bundle, s.signing = bundle, signing })
	return nil
}
