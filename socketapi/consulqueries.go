package socketapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// maxMatchNames bounds the names of one match query.
const maxMatchNames = 256

// consulMatchNames checks the parameters in the agent's words; all of its
// errors here are 500.
func consulMatchNames(c *call) ([]intentions.Service, error) {
	if err := refuseEnterprise(c); err != nil {
		return nil, err
	}
	q := c.URL.Query()
	names := q["name"]
	failed := func(text string) error { return &consulError{http.StatusInternalServerError, text} }
	switch by := q.Get("by"); {
	case !q.Has("by"):
		return nil, failed("required query parameter 'by' not set")
	case by == "source":
		return nil, failed("connectd serves 'by=destination' only; ask the Consul agent for intentions by source")
	case by != "destination":
		return nil, failed("'by' parameter must be one of 'source' or 'destination'")
	case len(names) == 0:
		return nil, failed("required query parameter 'name' not set")
	case len(names) > maxMatchNames:
		return nil, failed("at most " + strconv.Itoa(maxMatchNames) + " names are answered at once")
	}
	services := make([]intentions.Service, 0, len(names))
	for _, name := range names {
		if name != intentions.Wildcard && !intentions.ValidName(name) {
			return nil, failed("name " + strconv.Quote(clip(name)) + " is invalid: input must be one service name")
		}
		services = append(services, intentions.NewService(name))
	}
	return services, nil
}

// consulMatch answers with the rows as upstream wrote them.
func (a *api) consulMatch(c *call) error {
	b, err := parseBlocking(c.URL.Query(), consulQueryWait)
	if err != nil {
		return err
	}
	snapshots, err := c.watchedAll(b)
	if err != nil {
		return err
	}
	out := make(map[string]json.RawMessage, len(snapshots))
	var index uint64
	var age time.Duration
	now := time.Now()
	for _, s := range snapshots {
		out[s.Service.Name] = s.Policy.Raw
		index, age = max(index, s.Policy.Index), max(age, s.Age(now))
	}
	c.queryHeaders(index, age)
	c.w.Header().Set("X-Consul-Effective-Consistency", "leader")
	return c.json(out)
}

// watchedAll waits for the policies of all the call's services, and until the
// largest of their indexes differs from the caller's.
func (c *call) watchedAll(b blocking) ([]*cache.Snapshot, error) {
	for _, s := range c.services {
		if err := c.api.cfg.Cache.Ask(c.Context(), c.conn.peer.UID, s, false); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	snapshots := make([]*cache.Snapshot, len(c.services))
	var missing intentions.Service
	ok, err := c.await(b, func() reading {
		r := reading{there: true}
		var channels []<-chan struct{}
		for i, s := range c.services {
			current, changed := c.api.cfg.Cache.Snapshot(s)
			if current == nil || current.Policy == nil {
				r.there, missing = false, s
			} else {
				r.index = max(r.index, current.Policy.Index)
			}
			snapshots[i] = current
			channels = append(channels, changed)
		}
		r.changed = anyOf(ctx, channels)
		return r
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, c.api.whyNotReady(missing)
	}
	return snapshots, nil
}

// anyOf returns a channel that is closed when one of several is. It gives up
// when ctx ends.
func anyOf(ctx context.Context, channels []<-chan struct{}) <-chan struct{} {
	if len(channels) == 1 {
		return channels[0]
	}
	done := make(chan struct{})
	closeDone := sync.OnceFunc(func() { close(done) })
	for _, ch := range channels {
		go func() {
			select {
			case <-ch:
				closeDone()
			case <-done:
			case <-ctx.Done():
			}
		}()
	}
	return done
}

func (a *api) consulHealthConnect(c *call) error { return a.consulHealth(c, true) }
func (a *api) consulHealthService(c *call) error { return a.consulHealth(c, false) }

// cachedParams are the parameters of a health query that do not change its
// answer, or are part of a lookup. Any other makes it pass through.
var cachedParams = []string{"passing", "dc", "index", "wait", "stale", "consistent", "cached", "connect", "token", "pretty"}

func (a *api) consulHealth(c *call, mesh bool) error {
	if err := refuseEnterprise(c); err != nil {
		return err
	}
	s, err := c.named(chi.URLParam(c.Request, "service"))
	if err != nil {
		return err
	}
	q := c.URL.Query()
	passing, err := passingOf(q)
	if err != nil {
		return err
	}
	for name := range q {
		if !slices.Contains(cachedParams, name) && q.Get(name) != "" {
			return a.passThrough(c)
		}
	}
	b, err := parseBlocking(q, consulQueryWait)
	if err != nil {
		return err
	}
	view, err := c.lookUp(b, cache.Lookup{Service: s, Datacenter: q.Get("dc"), Mesh: mesh, Passing: passing})
	if err != nil {
		return err
	}
	c.queryHeaders(view.Part.Index, view.Age)
	c.w.Header().Set("X-Consul-Effective-Consistency", "stale")
	return c.write(http.StatusOK, typeJSON, view.Part.Body)
}

// passingOf reads ?passing, which alone means yes.
func passingOf(q url.Values) (bool, error) {
	if !q.Has("passing") {
		return false, nil
	}
	text := q.Get("passing")
	if text == "" {
		return true, nil
	}
	yes, err := strconv.ParseBool(text)
	if err != nil {
		return false, &consulError{http.StatusBadRequest, "Invalid value for ?passing"}
	}
	return yes, nil
}

func (a *api) consulQuery(c *call) error {
	if err := refuseEnterprise(c); err != nil {
		return err
	}
	if name := chi.URLParam(c.Request, "query"); !intentions.ValidName(name) {
		return badRequest("query name %q is not valid", clip(name))
	}
	return a.passThrough(c)
}

func (a *api) consulLeader(c *call) error { return a.passThrough(c) }

// neverPassed are parameters that must not reach Consul: tokens, because the
// daemon's own is used, and what would hold a connection.
var neverPassed = []string{"token", "index", "wait", "hash", "cached"}

// passedHeaders are those of Consul's answer that are handed on.
var passedHeaders = []string{
	"X-Consul-Index", "X-Consul-Knownleader", "X-Consul-Lastcontact", "X-Consul-Default-Acl-Policy",
	"X-Consul-Effective-Consistency", "X-Consul-Query-Backend", "X-Consul-Results-Filtered-By-Acls",
}

// passThrough hands a read to Consul with the daemon's token and its answer
// back as it is.
func (a *api) passThrough(c *call) error {
	q := c.URL.Query()
	for _, name := range neverPassed {
		q.Del(name)
	}
	p, err := a.pass(c.Context(), c.URL.Path, q)
	if err != nil {
		return err
	}
	for _, name := range passedHeaders {
		if v := p.header.Get(name); v != "" {
			c.w.Header().Set(name, v)
		}
	}
	contentType := typeText
	if p.status == http.StatusOK {
		contentType = typeJSON
	}
	return c.write(p.status, contentType, p.body)
}
