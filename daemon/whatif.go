package daemon

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/intentions"
)

// Proposal is service-intentions entries that are not written yet.
type Proposal struct{ entries devca.Entries }

// ParseProposal reads a file in Consul's formats. A refusal names file, line
// and remedy.
func ParseProposal(name string, src []byte) (*Proposal, error) {
	entries, err := devca.ParseFile(name, src)
	if err != nil {
		return nil, err
	}
	if len(entries.Intentions) == 0 {
		return nil, fmt.Errorf(`%s:1: the file proposes no intentions; write an entry with Kind = "service-intentions"`, name)
	}
	return &Proposal{entries}, nil
}

// Destinations returns the services that the entries name, each once: the case
// of letters does not tell destinations apart. every is set if an entry is for
// all services.
func (p *Proposal) Destinations() (named []string, every bool) {
	for i := range p.entries.Intentions {
		name := p.entries.Intentions[i].Name
		same := func(other string) bool { return strings.EqualFold(name, other) }
		switch {
		case name == intentions.Wildcard:
			every = true
		case !slices.ContainsFunc(named, same):
			named = append(named, name)
		}
	}
	return named, every
}

// WhatIfInput is what holds for one destination now, and who is asked about.
type WhatIfInput struct {
	Destination   intentions.Service
	TrustDomain   string
	Default       intentions.DefaultAction
	Normalization intentions.Normalization
	// Intentions are the rows of the destination as Consul lists them.
	Intentions json.RawMessage
	// Sources are asked about besides those that the intentions name.
	Sources []intentions.Service
	// ID is the SPIFFE ID of one source to look at, or empty.
	ID string
	// Request is what permissions are judged by; nil asks for connections.
	Request *intentions.Request
}

// WhatIf is what a proposal would do to one destination.
type WhatIf struct {
	Destination intentions.Service `json:"destination"`
	// Sources is the number of those looked at; any other service counts as one.
	Sources int            `json:"sources"`
	Changes []WhatIfChange `json:"changes"`
	// Asked is what becomes of the source that was asked about.
	Asked *WhatIfChange `json:"asked,omitempty"`
}

// WhatIfChange is the decision on a source now and then.
type WhatIfChange struct {
	// Source is a service or a SPIFFE ID; empty with AnyOther.
	Source string `json:"source,omitempty"`
	// AnyOther stands for every service that is not looked at by its name.
	AnyOther bool          `json:"any_other,omitempty"`
	Changes  bool          `json:"changes"`
	Now      WhatIfVerdict `json:"now"`
	Then     WhatIfVerdict `json:"then"`
	// OtherPermissions is set where requests are judged now and then, but not
	// alike, and no request was given to compare by.
	OtherPermissions bool `json:"other_permissions,omitempty"`
}

// WhatIfVerdict is what is said of a connection and, where that depends on
// it, of the request.
type WhatIfVerdict struct {
	Decision string         `json:"decision"`
	Reason   string         `json:"reason"`
	Rule     string         `json:"rule,omitempty"`
	Request  *WhatIfRequest `json:"request,omitempty"`
}

// WhatIfRequest is what is said of a request.
type WhatIfRequest struct {
	Decision   string `json:"decision"`
	Reason     string `json:"reason"`
	Permission *int   `json:"permission,omitempty"`
}

// WhatIf lays the proposal over the intentions of a destination and compares
// the decisions. Default action and normalization stay as they are.
func (p *Proposal) WhatIf(in WhatIfInput) (*WhatIf, error) {
	proposed, err := p.entries.Overlay(in.Intentions, in.Destination)
	if err != nil {
		return nil, err
	}
	now, err := in.compile(in.Intentions)
	if err != nil {
		return nil, err
	}
	then, err := in.compile(proposed)
	if err != nil {
		return nil, err
	}
	c := comparison{in: &in, now: now, then: then}
	sources := c.sources()
	out := &WhatIf{Destination: in.Destination, Sources: len(sources) + 1, Changes: []WhatIfChange{}}
	for _, s := range sources {
		change := c.compare(c.idOf(s))
		if change.Source = s.String(); change.Changes {
			out.Changes = append(out.Changes, change)
		}
	}
	other := c.compare(c.idOf(stranger(sources)))
	if other.AnyOther = true; other.Changes {
		out.Changes = append(out.Changes, other)
	}
	if in.ID != "" {
		asked := c.compare(in.ID)
		asked.Source, out.Asked = in.ID, &asked
	}
	return out, nil
}

// compile builds the table that decides by some rows.
func (in *WhatIfInput) compile(rows json.RawMessage) (*intentions.Table, error) {
	list, err := intentions.ParseIntentions(bytes.TrimSpace(rows))
	if err != nil {
		return nil, fmt.Errorf("intentions of %s: %w", in.Destination, err)
	}
	policy, _ := intentions.NewPolicy(in.Destination, in.TrustDomain, in.Default, list)
	policy.Normalization = in.Normalization
	return intentions.Compile(policy), nil
}

// comparison is a destination's intentions now and then.
type comparison struct {
	in        *WhatIfInput
	now, then *intentions.Table
}

// sources returns everybody who has to be looked at by name, in order: whoever
// one of the tables names, and whoever was given. Names that no SPIFFE ID can
// carry belong to nobody.
func (c *comparison) sources() []intentions.Service {
	found := map[intentions.Service]bool{}
	add := func(s intentions.Service) {
		if intentions.ValidName(s.Name) && intentions.ValidName(s.Namespace) {
			found[s] = true
		}
	}
	for _, s := range c.in.Sources {
		add(s)
	}
	for _, t := range []*intentions.Table{c.now, c.then} {
		rules := t.Policy().Rules
		for i := range rules {
			add(rules[i].Source)
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b intentions.Service) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// stranger returns a service that is not among those given.
func stranger(known []intentions.Service) intentions.Service {
	s := intentions.NewService("any-other-service")
	for n := 1; slices.Contains(known, s); n++ {
		s.Name = "any-other-service-" + strconv.Itoa(n)
	}
	return s
}

// idOf is a SPIFFE ID of a service; its datacenter decides nothing.
func (c *comparison) idOf(s intentions.Service) string {
	return intentions.ID{TrustDomain: c.in.TrustDomain, Service: s, Datacenter: "dc1"}.String()
}

// compare decides on a source by both tables.
func (c *comparison) compare(id string) WhatIfChange {
	now, then := c.now.DecideURI(id, nil), c.then.DecideURI(id, nil)
	out := WhatIfChange{Now: c.verdict(c.now, id, now), Then: c.verdict(c.then, id, then)}
	switch {
	case now.Outcome != then.Outcome:
		out.Changes = true
	case now.Outcome != intentions.PerRequest:
	case c.in.Request != nil:
		out.Changes = out.Now.Request.Decision != out.Then.Request.Decision
	default:
		out.OtherPermissions = !reflect.DeepEqual(permissions(c.now, now), permissions(c.then, then))
		out.Changes = out.OtherPermissions
	}
	return out
}

// verdict puts a decision on a connection in words, with that on the request
// where it depends on one.
func (c *comparison) verdict(t *intentions.Table, id string, d intentions.Decision) WhatIfVerdict {
	out := WhatIfVerdict{Decision: d.Outcome.String(), Reason: d.Reason.String()}
	if d.Rule > 0 {
		out.Rule = t.Policy().Rules[d.Rule-1].ID
	}
	if d.Outcome != intentions.PerRequest || c.in.Request == nil {
		return out
	}
	of := t.DecideURI(id, c.in.Request)
	out.Request = &WhatIfRequest{Decision: of.Outcome.String(), Reason: of.Reason.String()}
	if of.Permission > 0 {
		n := int(of.Permission) - 1
		out.Request.Permission = &n
	}
	return out
}

func permissions(t *intentions.Table, d intentions.Decision) []intentions.Permission {
	return t.Policy().Rules[d.Rule-1].Permissions
}
