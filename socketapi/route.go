package socketapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/connectd/connectd/intentions"
)

// Route describes one registered route. There is no way to register one
// without its grant and the way its services are found.
type Route struct {
	Method  string
	Pattern string
	Grant   Grant
	// Consul is true for the routes of Consul's agent, whose errors are text.
	Consul bool

	find   finder
	handle func(*call) error
}

// finder names the services that a request concerns; each must be admitted.
type finder func(*call) ([]intentions.Service, error)

// call is one request on its way through a route.
type call struct {
	*http.Request
	w     http.ResponseWriter
	api   *api
	route *Route
	conn  *connection
	// began bounds the time that the request is held for first material, all
	// questions of a batch together.
	began time.Time
	// services are those that the route's finder named.
	services []intentions.Service
	// admitted are all that were admitted so far, for looking again.
	admitted []intentions.Service
	// changed is closed when these admissions may no longer hold; nil if they
	// always do.
	changed <-chan struct{}
	// body is the parsed body, for routes that find their service in it.
	body any
}

// service is the one service of a route that concerns exactly one.
func (c *call) service() intentions.Service { return c.services[0] }

// router registers routes and remembers them for those who check.
type router struct {
	mux    *chi.Mux
	api    *api
	routes []Route
}

func (r *router) add(route Route) {
	r.routes = append(r.routes, route)
	r.mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, req *http.Request) {
		r.api.serve(w, req, &route)
	})
}

// serve runs a request through method check, finder, admission and handler.
func (a *api) serve(w http.ResponseWriter, req *http.Request, route *Route) {
	c := &call{Request: req, w: w, api: a, route: route, conn: connectionOf(req.Context()), began: time.Now()}
	defer c.recover()
	if req.Method != route.Method {
		c.wrongMethod()
		return
	}
	err := c.admit()
	if err == nil {
		err = route.handle(c)
	}
	if err != nil && !errors.Is(err, errCallerGone) && !errors.Is(err, context.Canceled) {
		c.fail(err)
	}
}

// recover keeps a defect in one handler from ending the daemon. The panic's
// value is not logged: it could hold anything.
func (c *call) recover() {
	if p := recover(); p != nil {
		c.api.logger.Error("handler panicked", "route", c.route.Pattern, "type", fmt.Sprintf("%T", p),
			"stack", string(debug.Stack()))
		c.w.Header().Set("Connection", "close")
		c.fail(errors.New("a defect in connectd ended this request; see the daemon's log"))
	}
}

func (c *call) admit() error {
	if c.route.Grant == GrantNone {
		return nil
	}
	// The channel is taken before the rules are read, so no change is missed.
	c.follow()
	if c.conn.stranger.Load() {
		return errStranger
	}
	if c.route.find == nil {
		return c.admitFor(intentions.Service{})
	}
	// A caller without any right learns nothing about how requests are read.
	if err := c.admitFor(intentions.Service{}); err != nil {
		return err
	}
	services, err := c.route.find(c)
	if err != nil {
		return err
	}
	for _, s := range services {
		if err := c.admitFor(s); err != nil {
			return err
		}
	}
	c.services = services
	return nil
}

// follow takes the channel that tells when admissions may no longer hold.
func (c *call) follow() {
	if of, ok := c.api.cfg.Admission.(Changing); ok {
		c.changed = of.Changed()
	}
}

// readmit looks again at what was admitted, where rules have changed since: a
// right that was taken away ends for requests that are open.
func (c *call) readmit() error {
	select {
	case <-c.changed:
	default:
		return nil
	}
	c.follow()
	for _, s := range c.admitted {
		if !c.api.cfg.Admission.Admit(c.conn.peer, c.route.Grant, s) {
			return c.refuse(s)
		}
	}
	return nil
}

// admitFor returns the refusal for one service, which is the same whether or
// not that service exists.
func (c *call) admitFor(s intentions.Service) error {
	if c.api.cfg.Admission.Admit(c.conn.peer, c.route.Grant, s) {
		c.admitted = append(c.admitted, s)
		return nil
	}
	return c.refuse(s)
}

// refuse tells the caller nothing but its own facts, and keeps the rest for
// the administrator.
func (c *call) refuse(s intentions.Service) error {
	p := c.conn.peer
	id := c.api.cfg.Refusals.add(Refusal{At: time.Now(), Peer: p, Grant: c.route.Grant, Service: s, Route: c.route.Pattern})
	c.api.logger.Warn("caller refused", "refusal", id, "peer_pid", p.PID, "peer_uid", p.UID, "peer_gid", p.GID,
		"grant", string(c.route.Grant), "service", s.String(), "route", c.route.Pattern)
	return &apiError{status: http.StatusForbidden, code: CodeForbidden, message: fmt.Sprintf(
		"this process (uid %d, gid %d, pid %d) is not admitted here (refusal %s); an administrator sees "+
			"what is missing with: connectd admission explain %s", p.UID, p.GID, p.PID, id, id)}
}

// errStranger refuses whoever uses a connection that another process opened:
// admission knows that one only.
var errStranger = &apiError{status: http.StatusForbidden, code: CodeForbidden, message: "another process opened this " +
	"connection than the one that uses it, and only the first is known; open a connection in each process"}

// fromPath finds the service in the path, and its other two parts in ?ns= and
// ?partition=.
func fromPath(c *call) ([]intentions.Service, error) {
	s, err := c.named(chi.URLParam(c.Request, "service"))
	if err != nil {
		return nil, err
	}
	return []intentions.Service{s}, nil
}

// named checks a service name and adds the parts from the query.
func (c *call) named(name string) (intentions.Service, error) {
	if !intentions.ValidName(name) {
		return intentions.Service{}, badRequest("service name %q is not valid: use letters, digits, '.', '-' and '_'", clip(name))
	}
	s := intentions.NewService(name)
	q := c.URL.Query()
	for _, part := range []struct {
		name string
		to   *string
	}{{"ns", &s.Namespace}, {"partition", &s.Partition}} {
		value := q.Get(part.name)
		if value == "" {
			continue
		}
		if !intentions.ValidName(value) {
			return intentions.Service{}, badRequest("%s %q is not valid", part.name, clip(value))
		}
		*part.to = value
	}
	return s, nil
}

// clip bounds foreign text in a message.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

// writeWithin bounds how long a slow reader may hold a response.
const writeWithin = 2 * time.Second
