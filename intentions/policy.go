package intentions

import (
	"fmt"
	"slices"
)

// PolicySchema is the version of the policy document that this code writes
// and the newest that it can evaluate.
const PolicySchema = 1

// Policy is one destination's intentions, ordered and complete with the
// default action, in the form that clients evaluate. It is immutable once
// built. Rules are in deciding order: the first whose source matches decides.
type Policy struct {
	Schema         int           `json:"schema"`
	TrustDomain    string        `json:"trust_domain"`
	Destination    Service       `json:"destination"`
	DefaultAction  string        `json:"default_action"`
	DefaultOrigin  string        `json:"default_origin"`
	RequestHeaders []string      `json:"request_headers"`
	Normalization  Normalization `json:"normalization"`
	Rules          []Rule        `json:"rules"`
}

// Rule is one intention of a policy. It has either an action or permissions.
type Rule struct {
	ID          string       `json:"id"`
	Precedence  int          `json:"precedence"`
	Source      Service      `json:"source"`
	Action      string       `json:"action,omitempty"`
	Reason      string       `json:"reason,omitempty"`
	Requires    []string     `json:"requires,omitempty"`
	Permissions []Permission `json:"permissions,omitempty"`

	// unknown is set for a rule that was read with members that this version
	// does not know, or that contradicts itself.
	unknown bool
}

// Normalization says how a request is put in canonical form before it is
// judged, in the terms of Consul's mesh configuration entry.
type Normalization struct {
	Path           bool   `json:"path"`
	MergeSlashes   bool   `json:"merge_slashes"`
	EscapedSlashes string `json:"escaped_slashes"`
	Underscores    string `json:"underscores"`
}

// Words of Normalization.
const (
	SlashesKeep       = "keep"
	SlashesReject     = "reject"
	SlashesUnescape   = "unescape"
	UnderscoresAllow  = "allow"
	UnderscoresReject = "reject"
	UnderscoresDrop   = "drop"
)

// DefaultNormalization is what Consul applies when nothing is configured.
func DefaultNormalization() Normalization {
	return Normalization{Path: true, EscapedSlashes: SlashesKeep, Underscores: UnderscoresAllow}
}

// RequiresRegex is the word for RE2 expressions that match the whole value.
const RequiresRegex = "regex"

// DefaultAction is what applies when no intention matches, and who said so.
// The zero value denies.
type DefaultAction struct {
	Allow  bool   `json:"allow"`
	Origin string `json:"origin"`
}

// Origins of a default action: connectd's configuration, the agent's
// default_intention_policy, the ACL default policy, or nobody.
const (
	OriginConfig  = "config"
	OriginAgent   = "agent"
	OriginACL     = "acl"
	OriginUnknown = "unknown"
)

// Action returns "allow" or "deny".
func (a DefaultAction) Action() string {
	if a.Allow {
		return "allow"
	}
	return "deny"
}

// NewPolicy builds the policy of a destination from its intentions in deciding
// order. The second result tells for each rule which intention it came from:
// intentions of peers never match and are left out.
func NewPolicy(destination Service, trustDomain string, fallback DefaultAction, list []Intention) (*Policy, []int) {
	p := &Policy{
		Schema:         PolicySchema,
		TrustDomain:    trustDomain,
		Destination:    destination,
		DefaultAction:  fallback.Action(),
		DefaultOrigin:  orUnknown(fallback.Origin),
		RequestHeaders: []string{},
		Normalization:  DefaultNormalization(),
		Rules:          []Rule{},
	}
	var rows []int
	for i := range list {
		if list[i].SourcePeer != "" {
			continue
		}
		p.Rules = append(p.Rules, newRule(len(p.Rules)+1, &list[i]))
		rows = append(rows, i)
	}
	p.RequestHeaders = append(p.RequestHeaders, requestHeaders(p.Rules)...)
	return p, rows
}

func orUnknown(origin string) string {
	if origin == "" {
		return OriginUnknown
	}
	return origin
}

func newRule(number int, x *Intention) Rule {
	r := Rule{ID: fmt.Sprintf("r%d", number), Precedence: x.Precedence, Source: x.Source()}
	if !x.judgeable() {
		return r.unsupported()
	}
	if !x.HasPermissions() {
		// A missing action without permissions denies, as in Consul.
		r.Action = "deny"
		if x.Action == "allow" {
			r.Action = "allow"
		}
		return r
	}
	for _, raw := range x.Permissions {
		p, err := parsePermission(raw)
		if err != nil {
			return r.unsupported()
		}
		if p.usesRegex() && r.Requires == nil {
			r.Requires = []string{RequiresRegex}
		}
		r.Permissions = append(r.Permissions, p)
	}
	// What does not compile here is not left for every client to find out.
	if _, ok := compilePermissions(r.Permissions, &Normalization{}); !ok {
		return r.unsupported()
	}
	return r
}

// judgeable reports whether everything that the intention demands of its
// source is known here.
func (x *Intention) judgeable() bool {
	return x.SourceSamenessGroup == "" && len(x.JWT) == 0 && len(x.Unknown) == 0 &&
		(x.SourceType == "" || x.SourceType == "consul") &&
		(x.Action == "" || !x.HasPermissions())
}

// unsupported turns a rule into a denial: it still matches, because a skipped
// rule would let a later one widen access.
func (r Rule) unsupported() Rule {
	r.Action, r.Reason = "deny", ReasonUnsupported.String()
	r.Permissions, r.Requires = nil, nil
	return r
}

func requestHeaders(rules []Rule) []string {
	var names []string
	for _, r := range rules {
		for _, p := range r.Permissions {
			for _, h := range p.Headers {
				names = append(names, h.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// DestinationOf returns the destination that a rule of this precedence was
// written for: the policy's own name, or a wildcard.
func (p *Policy) DestinationOf(r *Rule) Service {
	d := p.Destination
	switch {
	case r.Precedence <= 3:
		d.Namespace, d.Name = Wildcard, Wildcard
	case r.Precedence <= 6:
		d.Name = Wildcard
	}
	return d
}
