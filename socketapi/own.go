package socketapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

func (a *api) addOwnRoutes(r *router) {
	for _, route := range []Route{
		{Method: http.MethodGet, Pattern: "/healthz", Grant: GrantNone, handle: a.healthz},
		{Method: http.MethodGet, Pattern: "/readyz", Grant: GrantNone, handle: a.readyz},
		{Method: http.MethodGet, Pattern: "/v1/services", Grant: GrantAny, handle: a.listServices},
		{Method: http.MethodGet, Pattern: "/v1/services/{service}/snapshot", Grant: GrantLeaf, find: fromPath, handle: a.snapshot},
		{Method: http.MethodGet, Pattern: "/v1/services/{service}/leaf", Grant: GrantLeaf, find: fromPath, handle: a.leaf},
		{Method: http.MethodGet, Pattern: "/v1/services/{service}/policy", Grant: GrantAuthorize, find: fromPath, handle: a.policy},
		{Method: http.MethodGet, Pattern: "/v1/services/{service}/ready", Grant: GrantAny, find: fromPath, handle: a.ready},
		{Method: http.MethodGet, Pattern: "/v1/bundle", Grant: GrantAny, handle: a.bundle},
		{Method: http.MethodGet, Pattern: "/v1/discovery/{service}", Grant: GrantDiscover, handle: a.discovery},
		{Method: http.MethodPost, Pattern: "/v1/authorize", Grant: GrantAuthorize, handle: a.authorize},
		{Method: http.MethodGet, Pattern: "/v1/status", Grant: GrantStatus, handle: a.status},
	} {
		r.add(route)
	}
}

func (a *api) healthz(c *call) error {
	return c.write(http.StatusOK, typeJSON, []byte(`{"live":true}`))
}

// readyz says whether the daemon can answer from memory; it names nobody.
func (a *api) readyz(c *call) error {
	if part, _ := a.cfg.Cache.Bundle(); part == nil {
		return notReady("no trust bundle yet; see connectd status")
	}
	return c.write(http.StatusOK, typeJSON, []byte(`{"ready":true}`))
}

// watched makes sure that the caller's service is watched and waits for a
// part of its snapshot. there tells whether the part is known, and its index.
func (c *call) watched(b blocking, leaf bool, there func(*cache.Snapshot) (uint64, bool)) (*cache.Snapshot, error) {
	s := c.service()
	if err := c.api.cfg.Cache.Ask(c.Context(), c.conn.peer.UID, s, leaf); err != nil {
		return nil, err
	}
	var snapshot *cache.Snapshot
	ok, err := c.await(b, func() reading {
		current, changed := c.api.cfg.Cache.Snapshot(s)
		if current == nil {
			// The service left the watched set while the caller waited.
			return reading{}
		}
		snapshot = current
		index, known := there(current)
		return reading{index: index, there: known, changed: changed}
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, c.api.whyNotReady(s)
	}
	return snapshot, nil
}

// whyNotReady explains what a service waits for.
func (a *api) whyNotReady(s intentions.Service) error {
	if f := a.cfg.Cache.Cause(s); f != nil {
		return failureError(f)
	}
	return notReady("%s has no answer from upstream yet; see connectd status", s)
}

func hasAll(s *cache.Snapshot) (uint64, bool) {
	return s.Index, s.WantsLeaf && s.Leaf != nil && s.Bundle != nil && s.Policy != nil
}

func hasLeaf(s *cache.Snapshot) (uint64, bool) {
	if s.Leaf == nil {
		return 0, false
	}
	return s.Leaf.Index, true
}

func hasPolicy(s *cache.Snapshot) (uint64, bool) {
	if s.Policy == nil {
		return 0, false
	}
	return s.Policy.Index, true
}

// snapshot answers with leaf, bundle and policy as one consistent set.
func (a *api) snapshot(c *call) error {
	b, err := parseBlocking(c.URL.Query(), ownWait)
	if err != nil {
		return err
	}
	s, err := c.watched(b, true, hasAll)
	if err != nil {
		return err
	}
	slot := slotFull
	if have := c.URL.Query().Get("have_leaf"); have != "" && have == s.Leaf.Leaf.SerialNumber {
		slot = slotWithoutLeaf
	}
	body := s.Bodies.Get(slot, func() []byte { return encodeSnapshot(s, slot == slotFull) })
	return c.respond(s.Index, s.Age(time.Now()), body)
}

// respond writes head and tail with the headers that repeat the head.
func (c *call) respond(index uint64, age time.Duration, tail []byte) error {
	now := time.Now()
	h := c.w.Header()
	h.Set("X-Consul-Index", strconv.FormatUint(index, 10))
	h.Set("X-Connectd-Age", strconv.FormatFloat(seconds(age), 'f', 3, 64))
	h.Set("X-Connectd-Freshness", freshness(age))
	return c.write(http.StatusOK, typeJSON, c.api.head(age, now), tail)
}

func (a *api) leaf(c *call) error {
	b, err := parseBlocking(c.URL.Query(), ownWait)
	if err != nil {
		return err
	}
	s, err := c.watched(b, true, hasLeaf)
	if err != nil {
		return err
	}
	if s.Leaf.Error != "" {
		return &apiError{status: http.StatusGone, code: CodeLeafExpired, message: "the leaf of " + s.Service.String() +
			" is " + s.Leaf.Error + " (it ended " + s.Leaf.Leaf.NotAfter.UTC().Format(time.RFC3339) +
			") and could not be renewed; see connectd status"}
	}
	leaf, err := wireLeaf(s.Leaf)
	if err != nil {
		return err
	}
	return c.respond(s.Leaf.Index, a.cfg.Cache.BundleAge(time.Now()), tail(struct {
		Service serviceWire `json:"service"`
		*leafWire
	}{wireService(s.Service, s.Leaf.Leaf.Datacenter), leaf}))
}

func (a *api) policy(c *call) error {
	b, err := parseBlocking(c.URL.Query(), ownWait)
	if err != nil {
		return err
	}
	s, err := c.watched(b, false, hasPolicy)
	if err != nil {
		return err
	}
	body := s.Bodies.Get(slotPolicy, func() []byte { return tail(wirePolicy(s.Policy)) })
	return c.respond(s.Policy.Index, s.Age(time.Now()), body)
}

func (a *api) bundle(c *call) error {
	b, err := parseBlocking(c.URL.Query(), ownWait)
	if err != nil {
		return err
	}
	part, err := c.awaitBundle(b)
	if err != nil {
		return err
	}
	body := part.Bodies.Get(slotFull, func() []byte { return tail(wireBundle(part)) })
	return c.respond(part.Index, a.cfg.Cache.BundleAge(time.Now()), body)
}

func (c *call) awaitBundle(b blocking) (*cache.BundlePart, error) {
	var part *cache.BundlePart
	ok, err := c.await(b, func() reading {
		current, changed := c.api.cfg.Cache.Bundle()
		if part = current; part == nil {
			return reading{changed: changed}
		}
		return reading{index: part.Index, there: true, changed: changed}
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, c.api.whyNotReady(intentions.NewService("the trust bundle"))
	}
	return part, nil
}

// ready says whether a service has everything; it never blocks.
func (a *api) ready(c *call) error {
	st := a.cfg.Cache.ServiceStatus(c.service())
	switch {
	case st.Snapshot == nil:
		return notReady("%s is not watched yet; ask for its snapshot first", c.service())
	case !st.Ready:
		return a.whyNotReady(c.service())
	case st.Snapshot.Leaf != nil && st.Snapshot.Leaf.Error != "":
		return notReady("the leaf of %s is %s", c.service(), st.Snapshot.Leaf.Error)
	case st.Age > a.cfg.Cache.MaxStale():
		return notReady("upstream last confirmed %s %s ago, so every decision is deny", c.service(), st.Age.Round(time.Second))
	}
	return c.respond(st.Snapshot.Index, st.Age, []byte(`,"ready":true}`))
}

// decodeBody reads one JSON value and nothing behind it.
func decodeBody(c *call, into any) error {
	d := json.NewDecoder(c.Body)
	if err := d.Decode(into); err != nil {
		return bodyError(err)
	}
	// Reading on to the end finds what More does not count: a stray bracket.
	switch _, err := d.Token(); {
	case err == io.EOF:
		return nil
	case errors.As(err, new(*http.MaxBytesError)):
		return bodyError(err)
	}
	return badRequest("the body has something behind its JSON value")
}
