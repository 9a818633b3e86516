package daemon

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/connectd/connectd/socketapi"
)

// ErrServed means that another daemon runs in this one's place.
var ErrServed = socketapi.ErrServed

// sockets are the listeners of the daemon.
type sockets struct{ main, admin *place }

// place is a socket that is kept where clients look for it.
type place struct {
	node  socketapi.Node
	bound *socketapi.Bound
}

func (p *place) Close() error { return p.bound.Close() }

// listen opens both sockets; lock is that of the main one, or nil.
func listen(ctx context.Context, c Config, lock *socketapi.Lock) (sockets, error) {
	gid, adminGID, err := socketGroups(c)
	if err != nil {
		return sockets{}, err
	}
	main, err := newPlace(ctx, socketapi.Node{Path: c.Socket.Path, Mode: c.Socket.Mode, UID: -1, GID: gid, Lock: lock})
	if err != nil {
		return sockets{}, err
	}
	admin, err := newPlace(ctx, socketapi.Node{Path: c.AdminPath(), Mode: c.Admin.Mode, UID: -1, GID: adminGID})
	if err != nil {
		_ = main.Close()
		return sockets{}, err
	}
	return sockets{main, admin}, nil
}

func newPlace(ctx context.Context, n socketapi.Node) (*place, error) {
	b, err := n.Listen(ctx)
	if err != nil {
		return nil, err
	}
	return &place{n, b}, nil
}

// serve serves a socket until ctx ends.
func serve(ctx context.Context, g *errgroup.Group, s *socketapi.Server, p *place, logger hclog.Logger) {
	g.Go(func() error { return s.Serve(p.bound) })
	g.Go(func() error {
		p.keep(ctx, g, s, logger)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
		defer cancel()
		return s.Shutdown(drain)
	})
}

// lookEvery is how often a socket's path is looked at: cleaners and people
// remove what they do not know.
const lookEvery = 5 * time.Second

// keep puts the socket back when its path has lost it, until ctx ends. The old
// listener goes on, for whoever has it mounted elsewhere. What another has put
// there is left alone.
func (p *place) keep(ctx context.Context, g *errgroup.Group, s *socketapi.Server, logger hclog.Logger) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failing := false
	current := p.bound
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if current.InPlace() {
			failing = false
			continue
		}
		next, err := current.Again(ctx)
		if err != nil {
			if !failing {
				logger.Error("the socket's path has lost it and it cannot be put back", "socket", p.node.Path, "error", err)
			}
			failing = true
			continue
		}
		logger.Warn("the socket was removed from its path and put back", "socket", p.node.Path)
		current, failing = next, false
		g.Go(func() error { return s.Serve(next) })
	}
}
