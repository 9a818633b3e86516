package socketapi

import (
	"slices"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// Words for the overall state.
const (
	StateOK       = "ok"
	StateDegraded = "degraded"
	StateFailing  = "failing"
)

type statusWire struct {
	State      string            `json:"state"`
	Version    string            `json:"version"`
	Index      uint64            `json:"index"`
	Uptime     float64           `json:"uptime_seconds"`
	Datacenter string            `json:"datacenter"`
	Upstream   upstreamWire      `json:"upstream"`
	Store      string            `json:"store"`
	StoreKey   string            `json:"store_key,omitempty"`
	Bundle     *bundleStatusWire `json:"bundle,omitempty"`
	Default    *defaultWire      `json:"default_action,omitempty"`
	Services   []serviceStatus   `json:"services"`
	Problems   []problemWire     `json:"problems"`
}

type upstreamWire struct {
	Name string `json:"name"`
	Node string `json:"node,omitempty"`
	// Confirmed is false while upstream does not answer, or nothing was
	// confirmed lately.
	Confirmed bool `json:"confirmed"`
}

type bundleStatusWire struct {
	TrustDomain string    `json:"trust_domain"`
	Roots       int       `json:"roots"`
	ActiveRoot  string    `json:"active_root"`
	NotAfter    time.Time `json:"active_root_not_after"`
	AgeSeconds  float64   `json:"age_seconds"`
	Freshness   string    `json:"freshness"`
}

type defaultWire struct {
	Action string `json:"action"`
	Origin string `json:"origin"`
}

type serviceStatus struct {
	Service    serviceWire     `json:"service"`
	Ready      bool            `json:"ready"`
	Index      uint64          `json:"index"`
	AgeSeconds float64         `json:"age_seconds"`
	Freshness  string          `json:"freshness"`
	Rules      int             `json:"rules"`
	Leaf       *leafStatusWire `json:"leaf,omitempty"`
	Cause      string          `json:"cause,omitempty"`
}

type leafStatusWire struct {
	SPIFFEID     string    `json:"spiffe_id"`
	SerialNumber string    `json:"serial_number"`
	NotAfter     time.Time `json:"not_after"`
	Error        string    `json:"error,omitempty"`
}

type problemWire struct {
	Watch   string    `json:"watch"`
	Service string    `json:"service,omitempty"`
	Kind    string    `json:"kind"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// status shows upstream, store and the services that the caller may see.
func (a *api) status(c *call) error {
	st := a.cfg.Cache.Status()
	out := statusWire{
		Version: a.cfg.Version, Index: st.Index, Uptime: time.Since(a.started).Seconds(),
		Datacenter: st.Datacenter, Store: st.Store, StoreKey: a.cfg.StoreKey,
		Upstream: upstreamWire{Name: a.cfg.UpstreamName, Node: st.Node, Confirmed: answers(&st)},
		Services: []serviceStatus{}, Problems: []problemWire{},
	}
	if st.Bundle != nil {
		active := st.Bundle.Bundle.Active()
		out.Bundle = &bundleStatusWire{
			TrustDomain: st.Bundle.Bundle.TrustDomain, Roots: len(st.Bundle.Bundle.Roots),
			ActiveRoot: active.ID, NotAfter: active.NotAfter.UTC(),
			AgeSeconds: seconds(st.BundleAge), Freshness: freshness(st.BundleAge),
		}
	}
	if st.DefaultKnown {
		out.Default = &defaultWire{st.Default.Action(), st.Default.Origin}
	}
	out.Services = a.visible(c, st.Services, GrantStatus)
	for _, x := range st.Conditions {
		if x.Service.Name == "" || a.cfg.Admission.Admit(c.conn.peer, GrantStatus, x.Service) {
			out.Problems = append(out.Problems, problemWire{
				Watch: x.Watch, Service: optionalName(x.Service), Kind: x.Failure.Kind,
				Message: x.Failure.Message, Since: x.Failure.Since.UTC(),
			})
		}
	}
	out.Problems = append(out.Problems, a.complaints(c)...)
	out.State = overallState(&out)
	return c.json(out)
}

// watchAdmission names the rules as the place of a problem.
const watchAdmission = "admission"

// complaints are what the caller may know of rules that match nobody.
func (a *api) complaints(c *call) []problemWire {
	of, ok := a.cfg.Rules.(Complaining)
	if !ok {
		return nil
	}
	var out []problemWire
	for _, x := range of.Complaints() {
		if a.cfg.Admission.Admit(c.conn.peer, GrantStatus, x.Service) {
			out = append(out, problemWire{Watch: watchAdmission, Service: x.Service.Name, Kind: x.Kind,
				Message: x.Message, Since: x.Since.UTC()})
		}
	}
	return out
}

// answers reports whether upstream answers now: the query for the trust bundle
// is the one that is tried most often.
func answers(st *cache.Status) bool {
	for _, x := range st.Conditions {
		if x.Watch == cache.WatchBundle {
			return false
		}
	}
	return st.BundleAge <= cache.FreshFor
}

func optionalName(s intentions.Service) string {
	if s.Name == "" {
		return ""
	}
	return s.String()
}

// visible describes the services for which the caller holds a grant.
func (a *api) visible(c *call, all []cache.ServiceStatus, g Grant) []serviceStatus {
	out := []serviceStatus{}
	for _, s := range all {
		if a.cfg.Admission.Admit(c.conn.peer, g, s.Snapshot.Service) {
			out = append(out, describeService(s))
		}
	}
	return out
}

func describeService(st cache.ServiceStatus) serviceStatus {
	s := st.Snapshot
	out := serviceStatus{
		Service: wireService(s.Service, ""), Ready: st.Ready, Index: s.Index,
		AgeSeconds: seconds(st.Age), Freshness: freshness(st.Age),
	}
	if s.Policy != nil {
		out.Rules = len(s.Policy.Table.Policy().Rules)
	}
	if s.Leaf != nil {
		out.Service.Datacenter = s.Leaf.Leaf.Datacenter
		out.Leaf = &leafStatusWire{
			SPIFFEID: s.Leaf.Leaf.SPIFFEID, SerialNumber: s.Leaf.Leaf.SerialNumber,
			NotAfter: s.Leaf.Leaf.NotAfter.UTC(), Error: s.Leaf.Error,
		}
	}
	if st.Cause != nil {
		out.Cause = st.Cause.Message
	}
	return out
}

// overallState is failing where a service cannot be used, degraded where
// something needs a look, and ok otherwise.
func overallState(s *statusWire) string {
	if s.Bundle == nil {
		return StateFailing
	}
	state := StateOK
	if len(s.Problems) > 0 || s.Store == cache.StoreDegraded || s.Bundle.Freshness != "fresh" {
		state = StateDegraded
	}
	for _, svc := range s.Services {
		if svc.Leaf != nil && svc.Leaf.Error != "" {
			return StateFailing
		}
		if !svc.Ready || svc.Freshness != "fresh" {
			state = StateDegraded
		}
	}
	return state
}

// listServices shows the services that the caller may act for.
func (a *api) listServices(c *call) error {
	st := a.cfg.Cache.Status()
	services := a.visible(c, st.Services, GrantAny)
	return c.json(struct {
		Index    uint64          `json:"index"`
		Services []serviceStatus `json:"services"`
	}{st.Index, slices.Clip(services)})
}
