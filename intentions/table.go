package intentions

import "strings"

// Table is a policy compiled into hash lookups: the cost of a decision does
// not grow with the number of rules. It is immutable and safe for concurrent
// use.
type Table struct {
	policy *Policy
	// fallback is what applies where no rule matches.
	fallback verdict
	// home is the beginning of every SPIFFE ID of a source in our own trust
	// domain and the default parts, up to its datacenter. It is empty where no
	// SPIFFE ID can have that trust domain.
	home string

	// names gives what the first matching rule says for each name that is
	// written out, anyName what applies to all others; both for sources in the
	// default parts.
	names   map[string]verdict
	anyName verdict
	// odd is set where a rule has a source name that no SPIFFE ID of ours can
	// carry; such names are not among names.
	odd bool
	// all gives the number of the first rule for a source as written, with
	// the wildcards spelled "*", for sources anywhere else. Smaller numbers
	// decide.
	all map[Service]int32

	// rules holds what rule n says at n-1.
	rules []rule
}

// rule is a compiled rule.
type rule struct {
	verdict     verdict
	permissions []permission
}

// verdict is the decision on a connection whose requests are not known. It
// stands in the map's slot itself: where a table is larger than the caches,
// every further place to look is a wait for memory.
type verdict struct {
	Rule    int32
	Outcome Outcome
	Reason  Reason
}

func (v verdict) decision() Decision {
	return Decision{Rule: v.Rule, Outcome: v.Outcome, Reason: v.Reason}
}

// Compile builds the table of a policy. The policy must not change afterwards.
func Compile(p *Policy) *Table {
	t := &Table{
		policy:   p,
		fallback: verdict{Outcome: outcomeOf(p.DefaultAction), Reason: ReasonDefaultAction},
		names:    make(map[string]verdict, len(p.Rules)),
		all:      make(map[Service]int32, len(p.Rules)),
		rules:    make([]rule, len(p.Rules)),
	}
	if ValidName(p.TrustDomain) {
		t.home = idScheme + p.TrustDomain + "/ns/" + DefaultPart + "/dc/"
	}
	if p.Schema > PolicySchema {
		t.fallback = verdict{Reason: ReasonUnsupported}
	}
	for i := range p.Rules {
		number := int32(i + 1)
		if _, taken := t.all[p.Rules[i].Source]; !taken {
			t.all[p.Rules[i].Source] = number
		}
		t.rules[i] = compileRule(p, number)
	}
	t.anyName = t.lookUp(NewService(Wildcard))
	for s := range t.all {
		switch {
		case ValidName(s.Name):
			t.names[s.Name] = t.lookUp(NewService(s.Name))
		case s.Name != Wildcard:
			t.odd = true
		}
	}
	return t
}

func outcomeOf(action string) Outcome {
	if action == "allow" {
		return Allow
	}
	return Deny
}

func compileRule(p *Policy, number int32) rule {
	r := &p.Rules[number-1]
	c := rule{verdict: verdict{Rule: number, Reason: ReasonUnsupported}}
	if p.Schema > PolicySchema || !r.supported() {
		return c
	}
	if len(r.Permissions) == 0 {
		c.verdict.Outcome, c.verdict.Reason = outcomeOf(r.Action), ReasonIntention
		return c
	}
	permissions, ok := compilePermissions(r.Permissions, &p.Normalization)
	if ok {
		c.permissions = permissions
		c.verdict.Outcome, c.verdict.Reason = PerRequest, ReasonRequestRequired
	}
	return c
}

// supported reports whether the rule says nothing that is unknown here.
func (r *Rule) supported() bool {
	for _, word := range r.Requires {
		if word != RequiresRegex {
			return false
		}
	}
	return r.Reason == "" && !r.unknown
}

// Policy returns the policy that the table was compiled from.
func (t *Table) Policy() *Policy { return t.policy }

// Decide says whether source may connect to the policy's destination. A nil
// table denies: nothing is known yet.
func (t *Table) Decide(source ID) Decision { return t.DecideRequest(source, nil) }

// DecideRequest says whether a request of source may pass. Without a request
// the answer is about the connection.
func (t *Table) DecideRequest(source ID, r *Request) Decision {
	if t == nil {
		return Decision{}
	}
	// Of a newer schema not even the trust domain is known.
	if t.policy.Schema <= PolicySchema && !source.SameTrustDomain(t.policy.TrustDomain) {
		return Decision{Reason: ReasonForeignTrustDomain}
	}
	return t.say(t.find(source.Service), r)
}

// DecideURI parses the source's SPIFFE ID and decides. A nil request asks about
// the connection.
func (t *Table) DecideURI(source string, r *Request) Decision {
	if t == nil {
		return Decision{}
	}
	if name, ok := t.atHome(source); ok {
		if v, known := t.names[name]; known {
			return t.say(v, r)
		}
		// A name that is known is valid; any other has to be looked at.
		if ValidName(name) {
			return t.say(t.anyName, r)
		}
	}
	id, err := ParseID(source)
	if err != nil {
		return Decision{Reason: ReasonInvalidSource}
	}
	return t.DecideRequest(id, r)
}

// atHome cuts the name out of the SPIFFE ID of a source in the default parts
// of our own trust domain, without looking at every byte.
func (t *Table) atHome(source string) (name string, ok bool) {
	if t.home == "" || !strings.HasPrefix(source, t.home) {
		return "", false
	}
	_, rest, ok := segment(source[len(t.home):])
	if !ok {
		return "", false
	}
	return strings.CutPrefix(rest, "svc/")
}

// say turns a verdict into a decision.
func (t *Table) say(v verdict, r *Request) Decision {
	if r == nil || v.Outcome != PerRequest {
		return v.decision()
	}
	return t.judgeRequest(v.Rule, t.rules[v.Rule-1].permissions, r)
}

// judgeRequest applies the permissions of the deciding rule. Where none
// matches, the default action applies, and not the next rule.
func (t *Table) judgeRequest(number int32, list []permission, r *Request) Decision {
	ambiguous := Decision{Rule: number, Reason: ReasonAmbiguousRequest}
	n := &t.policy.Normalization
	if !validMethod(r.Method) || n.Underscores == UnderscoresReject && r.hasUnderscoreHeader() {
		return ambiguous
	}
	p, ok := readPath(r.Path, n)
	if !ok {
		return ambiguous
	}
	first := judge(list, r, p.consul)
	if first.bad {
		return ambiguous
	}
	d := t.ofJudgment(number, first)
	if p.aggressive == p.consul {
		return d
	}
	second := judge(list, r, p.aggressive)
	if second.bad || t.ofJudgment(number, second).Outcome != d.Outcome {
		return ambiguous
	}
	return d
}

func (t *Table) ofJudgment(number int32, j judgment) Decision {
	if j.number == 0 {
		return Decision{Rule: number, Outcome: t.fallback.Outcome, Reason: t.fallback.Reason}
	}
	d := Decision{Rule: number, Permission: j.number, Reason: ReasonPermission}
	if j.allow {
		d.Outcome = Allow
	}
	return d
}

// Match returns the number of the first rule whose source is s, counted from
// 1, or 0. Names and namespaces compare exactly; s.Partition is in lower case
// already.
func (t *Table) Match(s Service) int32 { return t.find(s).Rule }

func (t *Table) find(s Service) verdict {
	if t.odd || !s.InDefaultParts() {
		return t.lookUp(s)
	}
	if v, known := t.names[s.Name]; known {
		return v
	}
	return t.anyName
}

// lookUp returns what applies to a source. The default action is not for
// sources in another partition: Consul's agent refuses to decide about those.
func (t *Table) lookUp(s Service) verdict {
	if number := t.search(s); number > 0 {
		return t.rules[number-1].verdict
	}
	if !strings.EqualFold(s.Partition, orDefault(t.policy.Destination.Partition)) {
		return verdict{Reason: ReasonUnsupported}
	}
	return t.fallback
}

// search looks under the four spellings that cover a source.
func (t *Table) search(s Service) int32 {
	number := t.all[s]
	name := s.Name
	s.Name = Wildcard
	number = earlier(number, t.all[s])
	s.Namespace = Wildcard
	number = earlier(number, t.all[s])
	s.Name = name
	return earlier(number, t.all[s])
}

func earlier(a, b int32) int32 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
