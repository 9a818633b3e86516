package socketapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// addConsulRoutes registers the routes of Consul's agent that the Connect SDK
// uses, with the agent's paths, parameters, bodies, headers and errors. A
// token that a caller sends is never looked at: admission decides.
func (a *api) addConsulRoutes(r *router) {
	for _, route := range []Route{
		{Method: http.MethodGet, Pattern: "/v1/agent/connect/ca/roots", Grant: GrantAny, handle: a.consulAgentRoots},
		{Method: http.MethodGet, Pattern: "/v1/connect/ca/roots", Grant: GrantAny, handle: a.consulRoots},
		{Method: http.MethodGet, Pattern: "/v1/agent/connect/ca/leaf/{service}", Grant: GrantLeaf, find: consulFromPath, handle: a.consulLeaf},
		{Method: http.MethodPost, Pattern: "/v1/agent/connect/authorize", Grant: GrantAuthorize, find: consulTarget, handle: a.consulAuthorize},
		{Method: http.MethodGet, Pattern: "/v1/connect/intentions/match", Grant: GrantAuthorize, find: consulMatchNames, handle: a.consulMatch},
		{Method: http.MethodGet, Pattern: "/v1/health/connect/{service}", Grant: GrantDiscover, handle: a.consulHealthConnect},
		{Method: http.MethodGet, Pattern: "/v1/health/service/{service}", Grant: GrantDiscover, handle: a.consulHealthService},
		{Method: http.MethodGet, Pattern: "/v1/query/{query}/execute", Grant: GrantDiscover, handle: a.consulQuery},
		{Method: http.MethodGet, Pattern: "/v1/status/leader", Grant: GrantAny, handle: a.consulLeader},
		{Method: http.MethodGet, Pattern: "/v1/agent/self", Grant: GrantAny, handle: a.consulSelf},
	} {
		route.Consul = true
		r.add(route)
	}
}

// refuseEnterprise refuses what Community Edition refuses, in its words.
func refuseEnterprise(c *call) error {
	for _, p := range []struct{ param, header, feature string }{
		{"ns", "X-Consul-Namespace", "Namespaces are a Consul Enterprise feature"},
		{"partition", "X-Consul-Partition", "Partitions are a Consul Enterprise feature"},
	} {
		if c.URL.Query().Has(p.param) {
			return &consulError{http.StatusBadRequest, `Invalid query parameter: "` + p.param + `" - ` + p.feature}
		}
		if c.Header.Get(p.header) != "" {
			return &consulError{http.StatusBadRequest, `Invalid header: "` + p.header + `" - ` + p.feature}
		}
	}
	return nil
}

func consulFromPath(c *call) ([]intentions.Service, error) {
	if err := refuseEnterprise(c); err != nil {
		return nil, err
	}
	return fromPath(c)
}

// agentHeaders sends what every answer of the agent carries.
func (c *call) agentHeaders() {
	c.w.Header().Set("X-Consul-Default-Acl-Policy", c.api.cfg.Cache.Default().Action())
}

// queryHeaders sends the metadata of a query. LastContact is the age of what
// is answered: the api package stops reading at a missing one.
func (c *call) queryHeaders(index uint64, age time.Duration) {
	c.agentHeaders()
	h := c.w.Header()
	h.Set("X-Consul-Index", strconv.FormatUint(max(index, 1), 10))
	h.Set("X-Consul-Knownleader", strconv.FormatBool(age <= cache.FreshFor))
	h.Set("X-Consul-Lastcontact", strconv.FormatInt(min(age, maxAge).Milliseconds(), 10))
	h.Set("X-Consul-Query-Backend", "blocking-query")
}

// cacheHeaders marks an answer as the agent marks those from its cache.
func (c *call) cacheHeaders(age time.Duration) {
	c.w.Header().Set("X-Cache", "HIT")
	c.w.Header().Set("Age", strconv.FormatInt(int64(min(age, maxAge)/time.Second), 10))
}

func (a *api) consulAgentRoots(c *call) error {
	age := a.cfg.Cache.BundleAge(time.Now())
	if age <= cache.FreshFor {
		// The agent counts from the loss of contact, not from the last answer.
		age = 0
	}
	c.cacheHeaders(age)
	return a.consulRootsBody(c, consulCacheWait)
}

func (a *api) consulRoots(c *call) error { return a.consulRootsBody(c, consulQueryWait) }

// slotConsul is the place of the agent's form among a bundle's bodies.
const slotConsul = 1

func (a *api) consulRootsBody(c *call, rule waitRule) error {
	if err := refuseEnterprise(c); err != nil {
		return err
	}
	b, err := parseBlocking(c.URL.Query(), rule)
	if err != nil {
		return err
	}
	asPEM := false
	if text := c.URL.Query().Get("pem"); text != "" {
		if asPEM, err = strconv.ParseBool(text); err != nil {
			return &consulError{http.StatusBadRequest, "The 'pem' query parameter must be a boolean value"}
		}
	}
	part, err := c.awaitBundle(b)
	if err != nil {
		return err
	}
	if asPEM {
		c.agentHeaders()
		return c.write(http.StatusOK, "application/pem-certificate-chain", []byte(rootsPEM(part.Bundle)))
	}
	c.queryHeaders(part.Index, a.cfg.Cache.BundleAge(time.Now()))
	return c.write(http.StatusOK, typeJSON, part.Bodies.Get(slotConsul, func() []byte {
		body, _ := json.Marshal(struct {
			ActiveRootID string
			TrustDomain  string
			Roots        []cache.Root
		}{part.Bundle.ActiveRootID, part.Bundle.TrustDomain, part.Bundle.Roots})
		return body
	}))
}

func rootsPEM(b *cache.Bundle) string {
	var text strings.Builder
	for i := range b.Roots {
		text.WriteString(b.Roots[i].CertPEM)
		for _, p := range b.Roots[i].IntermediatesPEM {
			text.WriteString(p)
		}
	}
	return text.String()
}

// consulLeafWire is the agent's form of a leaf.
type consulLeafWire struct {
	SerialNumber  string
	CertPEM       string
	PrivateKeyPEM string
	Service       string
	ServiceURI    string
	ValidAfter    time.Time
	ValidBefore   time.Time
	CreateIndex   uint64
	ModifyIndex   uint64
}

// consulLeaf serves the leaf even when it has expired, as the agent does.
func (a *api) consulLeaf(c *call) error {
	b, err := parseBlocking(c.URL.Query(), consulCacheWait)
	if err != nil {
		return err
	}
	s, err := c.watched(b, true, hasLeaf)
	if err != nil {
		return err
	}
	l := s.Leaf.Leaf
	c.agentHeaders()
	c.cacheHeaders(0)
	c.w.Header().Set("X-Consul-Index", strconv.FormatUint(s.Leaf.Index, 10))
	return c.json(consulLeafWire{
		SerialNumber: l.SerialNumber, CertPEM: l.CertPEM, PrivateKeyPEM: l.KeyPEM.Reveal(),
		Service: l.Service.Name, ServiceURI: l.SPIFFEID,
		ValidAfter: l.NotBefore.UTC(), ValidBefore: l.NotAfter.UTC(),
		CreateIndex: l.CreateIndex, ModifyIndex: l.ModifyIndex,
	})
}

// consulSelf shows the little that the SDK may look at.
func (a *api) consulSelf(c *call) error {
	if err := refuseEnterprise(c); err != nil {
		return err
	}
	st := a.cfg.Cache.Status()
	c.agentHeaders()
	return c.json(map[string]any{"Config": map[string]any{
		"Datacenter": st.Datacenter, "NodeName": st.Node, "Server": false, "Version": "connectd/" + a.cfg.Version,
	}})
}
