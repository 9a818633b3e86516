package socketapi

import (
	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// explanationWire says why a decision came out as it did.
type explanationWire struct {
	TrustDomain   string           `json:"trust_domain"`
	DefaultAction string           `json:"default_action"`
	DefaultOrigin string           `json:"default_origin"`
	PathReadings  []string         `json:"path_readings,omitempty"`
	Considered    []consideredWire `json:"considered"`
	NotListed     int              `json:"not_listed,omitempty"`
}

// consideredWire is a rule that was looked at; the deciding one is the last.
type consideredWire struct {
	Rule        string                 `json:"rule"`
	Precedence  int                    `json:"precedence"`
	Source      string                 `json:"source"`
	Destination string                 `json:"destination"`
	Matched     bool                   `json:"matched"`
	Why         string                 `json:"why,omitempty"`
	Permissions []consideredPermission `json:"permissions,omitempty"`
}

type consideredPermission struct {
	Action  string `json:"action"`
	Matched bool   `json:"matched"`
	Why     string `json:"why,omitempty"`
}

// explain makes an explanation where the caller asked for one (?explain).
func (c *call) explain(p *cache.PolicyPart, source string, r *intentions.Request) *explanationWire {
	if !c.URL.Query().Has("explain") {
		return nil
	}
	x := p.Table.Explain(source, r)
	policy := p.Table.Policy()
	out := &explanationWire{
		TrustDomain: policy.TrustDomain, DefaultAction: policy.DefaultAction, DefaultOrigin: policy.DefaultOrigin,
		Considered: []consideredWire{}, NotListed: x.Left,
	}
	if x.Consul != "" {
		out.PathReadings = []string{x.Consul}
		if x.Aggressive != x.Consul {
			out.PathReadings = append(out.PathReadings, x.Aggressive)
		}
	}
	for _, considered := range x.Considered {
		out.Considered = append(out.Considered, wireConsidered(&considered))
	}
	return out
}

func wireConsidered(x *intentions.ConsideredRule) consideredWire {
	out := consideredWire{
		Rule: x.Rule.ID, Precedence: x.Rule.Precedence, Source: qualified(x.Rule.Source),
		Destination: qualified(x.Destination), Matched: x.Matched, Why: x.Why,
	}
	for _, p := range x.Permissions {
		out.Permissions = append(out.Permissions, consideredPermission{p.Permission.Action, p.Matched, p.Why})
	}
	return out
}
