package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// doors serves the sockets that services have of their own. One that cannot be
// opened, because its owner does not exist yet for example, is complained
// about and tried again; it does not keep the others shut.
type doors struct {
	api       socketapi.Config
	admission *admission
	logger    hclog.Logger
	// open and since belong to Run.
	open map[string]*openDoor
	// since is when a door could not be opened first.
	since map[string]time.Time
	wg    sync.WaitGroup
}

// openDoor is one that is served.
type openDoor struct {
	config   DoorConfig
	uid, gid int
	server   *socketapi.Server
}

func newDoors(api socketapi.Config, a *admission, logger hclog.Logger) *doors {
	return &doors{api: api, admission: a, logger: logger, open: map[string]*openDoor{}, since: map[string]time.Time{}}
}

// Run opens and closes doors as the configuration says, until ctx ends. opened
// is called once those of the start are open.
func (d *doors) Run(ctx context.Context, opened func()) error {
	defer d.wg.Wait()
	defer d.closeAll(ctx)
	tick := time.NewTicker(lookUpEvery)
	defer tick.Stop()
	for {
		// The channel is taken before the blocks are, so no change is missed.
		changed := d.admission.Changed()
		d.follow(ctx, d.admission.current.Load().services)
		if opened != nil {
			opened()
			opened = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// follow makes the open doors those of the configuration.
func (d *doors) follow(ctx context.Context, services []ServiceConfig) {
	wanted := map[string]bool{}
	var complaints []socketapi.Complaint
	for _, s := range services {
		if s.Socket == nil {
			continue
		}
		wanted[s.Name] = true
		err := d.ensure(ctx, s.Name, *s.Socket)
		if err == nil {
			delete(d.since, s.Name)
			continue
		}
		complaints = append(complaints, d.complaint(s.Name, err))
	}
	for name := range d.open {
		if !wanted[name] {
			d.close(name)
		}
	}
	d.admission.complainOfDoors(complaints)
}

func (d *doors) complaint(name string, err error) socketapi.Complaint {
	if d.since[name].IsZero() {
		d.since[name] = time.Now()
		d.logger.Error("a service's own socket is not served", "service", name, "error", err)
	}
	return socketapi.Complaint{
		Service: intentions.NewService(name), Kind: socketapi.ComplaintSocket, Since: d.since[name],
		Message: fmt.Sprintf("the socket of service %q is not served: %v", name, err),
	}
}

// ensure opens a door, unless it is open just so.
func (d *doors) ensure(ctx context.Context, name string, c DoorConfig) error {
	uid, gid, err := c.ids()
	if err != nil {
		d.close(name)
		return err
	}
	if o := d.open[name]; o != nil && o.config == c && o.uid == uid && o.gid == gid {
		return nil
	}
	d.close(name)
	l, err := socketapi.Node{Path: c.Path, Mode: c.Mode, UID: uid, GID: gid}.Listen(ctx)
	if err != nil {
		return err
	}
	api := d.api
	api.Admission = onlyService(intentions.NewService(name))
	server := socketapi.New(api)
	d.open[name] = &openDoor{c, uid, gid, server}
	d.logger.Info("serving a service's own socket", "service", name, "socket", c.Path)
	d.wg.Go(func() {
		if err := server.Serve(l); err != nil {
			d.logger.Error("a service's own socket ended", "service", name, "error", err)
		}
	})
	return nil
}

// ids looks up the owner; -1 keeps the daemon's own.
func (c *DoorConfig) ids() (uid, gid int, err error) {
	uid, gid = -1, -1
	if c.Owner != "" {
		id, err := userID(c.Owner)
		if err != nil {
			return 0, 0, err
		}
		uid = int(id)
	}
	if c.Group != "" {
		id, err := groupID(c.Group)
		if err != nil {
			return 0, 0, err
		}
		gid = int(id)
	}
	return uid, gid, nil
}

// close ends a door and its connections at once: a right that was taken away
// does not drain.
func (d *doors) close(name string) {
	if o := d.open[name]; o != nil {
		_ = o.server.Close()
		delete(d.open, name)
	}
}

// closeAll lets open requests end first.
func (d *doors) closeAll(ctx context.Context) {
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer cancel()
	var ending sync.WaitGroup
	for _, o := range d.open {
		ending.Go(func() { _ = o.server.Shutdown(drain) })
	}
	ending.Wait()
}
