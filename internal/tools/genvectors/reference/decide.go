package reference

import (
	"regexp"
	"strings"
)

// Answer is a decision in the words of the wire.
type Answer struct {
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	// Rule is the id of the deciding rule, or nil.
	Rule *string `json:"rule"`
	// Permission is the place of the deciding permission, from 0, or nil.
	Permission *int `json:"permission"`
}

var token = regexp.MustCompile("\\A[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}\\z")

// Decide says whether source may connect, or with a request, whether that
// request may pass.
func (p *Policy) Decide(source string, r *Request) Answer {
	id, ok := ParseID(source)
	if !ok {
		return Answer{Decision: "deny", Reason: "invalid_source"}
	}
	if p.newer {
		return Answer{Decision: "deny", Reason: "unsupported"}
	}
	if !strings.EqualFold(id.TrustDomain, p.trustDomain) {
		return Answer{Decision: "deny", Reason: "foreign_trust_domain"}
	}
	for i := range p.rules {
		if p.rules[i].covers(id) {
			return p.apply(&p.rules[i], r)
		}
	}
	if id.Partition != p.partition {
		return Answer{Decision: "deny", Reason: "unsupported"}
	}
	return Answer{Decision: p.fallback, Reason: "default_action"}
}

func (r *rule) covers(id ID) bool {
	return strings.ToLower(r.partition) == id.Partition &&
		(r.namespace == "*" || r.namespace == id.Namespace) &&
		(r.name == "*" || r.name == id.Name)
}

func (p *Policy) apply(u *rule, r *Request) Answer {
	answer := func(decision, reason string) Answer {
		return Answer{Decision: decision, Reason: reason, Rule: &u.id}
	}
	switch {
	case u.unsupported:
		return answer("deny", "unsupported")
	case len(u.permissions) == 0:
		return answer(u.action, "intention")
	case r == nil:
		return answer("per_request", "request_required")
	case !token.MatchString(r.Method) || p.norm.Underscores == "reject" && r.hasUnderscore():
		return answer("deny", "ambiguous_request")
	}
	consul, aggressive, ok := ReadPath(p.norm, r.Path)
	if !ok {
		return answer("deny", "ambiguous_request")
	}
	first := judge(u.permissions, *r, consul, p.norm, p.fallback)
	second := judge(u.permissions, *r, aggressive, p.norm, p.fallback)
	switch {
	case first.action == "" || first.action != second.action:
		return answer("deny", "ambiguous_request")
	case first.permission < 0:
		return answer(p.fallback, "default_action")
	}
	out := answer(first.action, "permission")
	out.Permission = &first.permission
	return out
}

func (r *Request) hasUnderscore() bool {
	for name := range r.Headers {
		if strings.Contains(name, "_") {
			return true
		}
	}
	return false
}
