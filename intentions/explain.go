package intentions

import (
	"cmp"
	"fmt"
	"strings"
)

// Explanation says why a decision came out as it did.
type Explanation struct {
	Decision Decision
	// Consul and Aggressive are the readings of the request's path; empty
	// where no path had to be read, or none could be.
	Consul, Aggressive string
	// Considered are rules in deciding order, the deciding one last. At most
	// maxConsidered of those that did not match are kept.
	Considered []ConsideredRule
	// Left is the number of rules that did not match and are not listed.
	Left int
}

// ConsideredRule is one rule that was looked at.
type ConsideredRule struct {
	Rule *Rule
	// Destination is the destination that the rule was written for.
	Destination Service
	Matched     bool
	// Why says in words why the rule did not match, or why it cannot be judged.
	Why         string
	Permissions []ConsideredPermission
}

// ConsideredPermission is one permission of the deciding rule.
type ConsideredPermission struct {
	Permission *Permission
	// Matched is set for the permission that decided.
	Matched bool
	// Why names the first condition that did not hold.
	Why string
}

// maxConsidered bounds the rules that an explanation lists.
const maxConsidered = 20

// Explain decides like DecideURI and says why. It is made for people, and is
// as slow as it has to be.
func (t *Table) Explain(source string, r *Request) Explanation {
	x := Explanation{Decision: t.DecideURI(source, r)}
	if t == nil {
		return x
	}
	id, err := ParseID(source)
	if err != nil || x.Decision.Reason == ReasonForeignTrustDomain {
		return x
	}
	deciding := t.Match(id.Service)
	for i := range t.policy.Rules {
		number := int32(i + 1)
		if number == deciding {
			x.Considered = append(x.Considered, t.explainDeciding(number, r, &x))
			return x
		}
		if len(x.Considered) >= maxConsidered {
			x.Left++
			continue
		}
		rule := &t.policy.Rules[i]
		x.Considered = append(x.Considered, ConsideredRule{
			Rule: rule, Destination: t.policy.DestinationOf(rule), Why: whyNotSource(rule.Source, id.Service),
		})
	}
	return x
}

// whyNotSource names the part of a rule's source that differs.
func whyNotSource(rule, source Service) string {
	switch {
	case rule.Partition != source.Partition:
		return fmt.Sprintf("the source is in partition %q, not %q", source.Partition, rule.Partition)
	case rule.Namespace != Wildcard && rule.Namespace != source.Namespace:
		return fmt.Sprintf("the source is in namespace %q, not %q", source.Namespace, rule.Namespace)
	case strings.EqualFold(rule.Name, source.Name):
		return fmt.Sprintf("the source is %q, not %q: letter case counts", source.Name, rule.Name)
	}
	return fmt.Sprintf("the source is %q, not %q", source.Name, rule.Name)
}

func (t *Table) explainDeciding(number int32, r *Request, x *Explanation) ConsideredRule {
	rule := &t.policy.Rules[number-1]
	out := ConsideredRule{Rule: rule, Destination: t.policy.DestinationOf(rule), Matched: true}
	compiled := &t.rules[number-1]
	switch {
	case t.policy.Schema > PolicySchema:
		out.Why = fmt.Sprintf("the policy has schema %d, and what that means is not known here, so it denies", t.policy.Schema)
	case compiled.verdict.Reason == ReasonUnsupported:
		out.Why = "the intention demands something that cannot be judged here, so it denies"
	case compiled.permissions != nil && r == nil:
		out.Why = "it has permissions, and no request was given"
	case compiled.permissions != nil:
		out.Permissions, out.Why = t.explainRequest(rule, compiled.permissions, r, x)
	}
	return out
}

// explainRequest shows what each permission made of the request. Where the two
// readings of its path are not judged alike, both are shown, and otherwise the
// one that Consul's Envoy would make.
func (t *Table) explainRequest(rule *Rule, list []permission, r *Request, x *Explanation) ([]ConsideredPermission, string) {
	if !validMethod(r.Method) {
		return nil, "the method is not a token"
	}
	if t.policy.Normalization.Underscores == UnderscoresReject && r.hasUnderscoreHeader() {
		return nil, "a header's name has an underscore, which the mesh rejects"
	}
	p, ok := readPath(r.Path, &t.policy.Normalization)
	if !ok {
		return nil, "the path is one that two servers could understand differently"
	}
	x.Consul, x.Aggressive = p.consul, p.aggressive
	readings := []string{p.consul}
	if x.Decision.Reason == ReasonAmbiguousRequest && p.consul != p.aggressive {
		readings = append(readings, p.aggressive)
	}
	out, bad := explainPermissions(rule.Permissions, list, r, readings)
	switch {
	case bad:
		return out, "a header that has to be looked at cannot be judged"
	case len(readings) > 1:
		return out, fmt.Sprintf("the path can be read as %q or as %q, and the two are not judged alike", p.consul, p.aggressive)
	}
	return out, ""
}

// explainPermissions goes on until each reading of the path has met its
// permission. With two readings no permission decides, so none is listed as
// matched. It ends, too, at a header that cannot be judged.
func explainPermissions(written []Permission, list []permission, r *Request, readings []string) (out []ConsideredPermission, bad bool) {
	open := readings
	for i := range list {
		c := ConsideredPermission{Permission: &written[i]}
		var still []string
		for _, path := range open {
			why, unreadable := list[i].whyNot(&written[i], r, path)
			switch {
			case unreadable:
				c.Why = why
				return append(out, c), true
			case why == "" && len(readings) > 1:
				c.Why = fmt.Sprintf("it matches only where the path is read as %q", path)
			case why == "":
				c.Matched = true
			default:
				c.Why = cmp.Or(c.Why, why)
				still = append(still, path)
			}
		}
		out = append(out, c)
		if open = still; len(open) == 0 {
			break
		}
	}
	return out, false
}

// whyNot names the first condition that a request does not meet, or nothing
// if it meets all. bad is set for a header that cannot be judged.
func (p *permission) whyNot(written *Permission, r *Request, path string) (why string, bad bool) {
	if p.path != nil && !p.path.matches(path) {
		return fmt.Sprintf("path %q %s %q", path, matchWords[p.path.match].isNot, p.path.value), false
	}
	if !p.anyMethod && p.methods&methodBit(r.Method) == 0 {
		return fmt.Sprintf("method %s is not among %s", r.Method, strings.Join(written.Methods, ", ")), false
	}
	for i := range p.headers {
		m := &p.headers[i]
		h := header{}
		if !m.drop {
			h = r.header(&m.name)
		}
		if h.bad {
			return fmt.Sprintf("header %s has a value that cannot be judged", m.Name), true
		}
		if !m.matches(h) {
			return written.Headers[i].whyNot(h.present, m.drop), false
		}
	}
	return "", false
}

// matchWords say what a value does that matches, and what it does not.
var matchWords = map[string]struct{ is, isNot string }{
	MatchExact:    {"is", "is not"},
	MatchPrefix:   {"starts with", "does not start with"},
	MatchSuffix:   {"ends with", "does not end with"},
	MatchContains: {"contains", "does not contain"},
	MatchRegex:    {"matches", "does not match"},
}

// whyNot never shows a header's value, which may be a secret: only what the
// intention compares it with.
func (m *HeaderMatch) whyNot(present, dropped bool) string {
	switch {
	case m.Match == MatchPresent && m.Invert:
		return fmt.Sprintf("header %s is present", m.Name)
	case dropped:
		return fmt.Sprintf("header %s has an underscore, and the mesh drops such headers", m.Name)
	case !present:
		return fmt.Sprintf("header %s is absent", m.Name)
	}
	words := matchWords[m.Match]
	text := fmt.Sprintf("header %s %s %q", m.Name, words.isNot, m.Value)
	if m.Invert {
		text = fmt.Sprintf("header %s %s %q", m.Name, words.is, m.Value)
	}
	if m.IgnoreCase {
		text += " in any case"
	}
	return text
}
