package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/intentions"
)

// DevOptions are the settings of a development daemon.
type DevOptions struct {
	Options
	// Dir holds files with intentions and services in Consul's formats; empty
	// means the samples.
	Dir string
	// Socket is the path of the socket; empty means DevSocket.
	Socket string
	// DefaultAllow lets everything pass that no intention covers.
	DefaultAllow bool
}

// sampleIntentions are what `connectd dev` starts with.
const sampleIntentions = `Kind = "service-intentions"
Name = "db"
Sources = [
  { Name = "web", Action = "allow" },
  { Name = "*",   Action = "deny"  },
]
`

// DevDir is the directory of the development daemon: private to the user, and
// no root is needed.
func DevDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "connectd-dev")
	}
	return filepath.Join(os.TempDir(), "connectd-dev-"+strconv.Itoa(os.Getuid()))
}

// DevSocket is where the development daemon listens by default.
func DevSocket() string { return filepath.Join(DevDir(), "connectd.sock") }

// Dev runs the daemon on the development authority until ctx ends: no Consul,
// nothing to prepare, and nothing that outlives it.
func Dev(ctx context.Context, o DevOptions) error {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	c := DefaultConfig()
	c.Socket = SocketConfig{Path: o.Socket, Mode: 0o600}
	if o.Socket == "" {
		if err := privateDevDir(DevDir()); err != nil {
			return err
		}
		c.Socket.Path = DevSocket()
	}
	authority, err := newAuthority(o)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "connectd-dev-store-")
	if err != nil {
		return fmt.Errorf("store of the development daemon: %w", err)
	}
	defer os.RemoveAll(dir)
	// A key beside a store that ends with the daemon would protect nothing.
	c.StoreDir, c.StoreInClear = dir, true
	return run(ctx, c, o.Options, parts{
		source: authority, name: "development authority", settle: untilReady,
		admission: newAdmission(ownUser(uint32(os.Geteuid())), nil, o.Logger.Named("admission")),
	})
}

// settleWithin bounds the wait for the first material.
const settleWithin = 5 * time.Second

// untilReady waits until every service has its material: a newcomer's first
// command must not meet a daemon that is still getting it.
func untilReady(ctx context.Context, c *cache.Cache) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for ctx.Err() == nil {
		_, changed := c.Bundle()
		waiting := false
		st := c.Status()
		for _, s := range st.Services {
			if !s.Ready {
				waiting = true
				_, changed = c.Snapshot(s.Snapshot.Service)
				break
			}
		}
		if st.Bundle != nil && st.Local != nil && !waiting {
			return
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
			// The set of services has no channel of its own here.
		case <-ctx.Done():
		}
	}
}

func newAuthority(o DevOptions) (*devca.Authority, error) {
	config := devca.Config{
		Dir: o.Dir, Logger: o.Logger,
		Default: intentions.DefaultAction{Allow: o.DefaultAllow, Origin: intentions.OriginConfig},
	}
	if o.Dir == "" {
		config.Intentions = map[string]string{"samples": sampleIntentions}
		config.Services = []devca.Service{{Name: "web", Port: 8080, Native: true}, {Name: "db", Port: 5432, Native: true}}
	}
	return devca.New(config)
}

// privateDevDir makes the directory, or checks that nobody else made it.
func privateDevDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory of the development daemon: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("directory of the development daemon: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm() != 0o700 || !ownedByUs(info) {
		return fmt.Errorf("%s is not a directory of yours alone (mode 0700); remove it, or choose another with --socket", dir)
	}
	return nil
}
