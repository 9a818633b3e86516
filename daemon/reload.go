package daemon

import (
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/socketapi"
)

// office does what the administrator asks for while the daemon runs.
type office struct {
	admission *admission
	maker     ruleMaker
	logger    hclog.Logger
	// load reads the configuration again; nil where there is none.
	load func() (Config, error)
	uid  uint32

	mu sync.Mutex // guards running, and lets one reload happen at a time
	// running is the configuration of the start; rights apart, it stays.
	running Config
}

var errNothingToReload = errors.New("this daemon runs without a configuration")

// Reload implements socketapi.Administration. Everything is judged before
// anything changes.
func (o *office) Reload() (socketapi.Reloaded, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.load == nil {
		return socketapi.Reloaded{}, errNothingToReload
	}
	c, err := o.load()
	if err != nil {
		return socketapi.Reloaded{}, err
	}
	r, err := o.judge(c)
	if err != nil {
		return socketapi.Reloaded{}, err
	}
	before := o.Rights()
	o.admission.replace(r, c.Services)
	after := o.Rights()
	out := socketapi.Reloaded{Added: missing(after, before), Removed: missing(before, after), Restart: needRestart(o.running, c)}
	o.logger.Info("configuration read again", "added", len(out.Added), "removed", len(out.Removed), "restart", out.Restart)
	return out, nil
}

// judge looks at everything that a start would refuse.
func (o *office) judge(c Config) (*rules, error) {
	source, err := newConsulSource(c, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	if err := refuseOwnSocket(c, source.SocketPath()); err != nil {
		return nil, err
	}
	if _, _, err := socketGroups(c); err != nil {
		return nil, err
	}
	return admissionOf(c, o.maker, o.uid)
}

// Rights implements socketapi.Administration.
func (o *office) Rights() []string {
	now := o.admission.current.Load()
	return withDoors(now.rights(), now.services)
}

// missing lists what is in all and not in of.
func missing(all, of []string) []string {
	out := []string{}
	for _, x := range all {
		if !slices.Contains(of, x) {
			out = append(out, x)
		}
	}
	return out
}

// needRestart names the blocks that differ and are read at the start only.
func needRestart(was, is Config) []string {
	out := []string{}
	for _, x := range []struct {
		block   string
		differs bool
	}{
		{"consul", was.Consul != is.Consul},
		{"socket", was.Socket != is.Socket},
		{"admin", was.Admin != is.Admin},
		{"store", was.StoreDir != is.StoreDir || was.StoreKeyFile != is.StoreKeyFile || was.StoreInClear != is.StoreInClear},
		{"policy", was.MaxStale != is.MaxStale || was.DefaultAction != is.DefaultAction},
		{"log", was.LogLevel != is.LogLevel || was.LogJSON != is.LogJSON},
		{"service token_file", !reflect.DeepEqual(was.tokenFiles(), is.tokenFiles())},
	} {
		if x.differs {
			out = append(out, x.block)
		}
	}
	return out
}

// Run reloads on each hangup until ctx ends.
func (o *office) Run(ctx context.Context, hangup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			if _, err := o.Reload(); err != nil {
				o.logger.Error("the configuration is refused and the old one stays in force", "error", err)
			}
		}
	}
}
