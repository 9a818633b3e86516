package intentions

// Table is a policy compiled into hash lookups: the cost of a decision does
// not grow with the number of rules. It is immutable and safe for concurrent
// use.
type Table struct {
	policy   *Policy
	fallback Decision
	// first gives the number of the first rule for a source as written, with
	// the wildcards spelled "*". Smaller numbers decide.
	first map[Service]int32
	// verdicts holds, for rule n, the decision at n-1.
	verdicts []Decision
}

// Compile builds the table of a policy. The policy must not change afterwards.
func Compile(p *Policy) *Table {
	t := &Table{
		policy:   p,
		fallback: Decision{Outcome: outcomeOf(p.DefaultAction), Reason: ReasonDefaultAction},
		first:    make(map[Service]int32, len(p.Rules)),
		verdicts: make([]Decision, len(p.Rules)),
	}
	for i := range p.Rules {
		number := int32(i + 1)
		source := p.Rules[i].Source
		if _, taken := t.first[source]; !taken {
			t.first[source] = number
		}
		t.verdicts[i] = verdict(&p.Rules[i], number)
	}
	return t
}

func outcomeOf(action string) Outcome {
	if action == "allow" {
		return Allow
	}
	return Deny
}

// verdict is what a rule says of a connection whose requests are not known.
func verdict(r *Rule, number int32) Decision {
	d := Decision{Rule: number}
	switch {
	case r.Reason == ReasonUnsupported.String():
		d.Reason = ReasonUnsupported
	case len(r.Permissions) > 0:
		d.Outcome, d.Reason = PerRequest, ReasonRequestRequired
	default:
		d.Outcome, d.Reason = outcomeOf(r.Action), ReasonIntention
	}
	return d
}

// Policy returns the policy that the table was compiled from.
func (t *Table) Policy() *Policy { return t.policy }

// Decide says whether source may connect to the policy's destination. A nil
// table denies: nothing is known yet.
func (t *Table) Decide(source ID) Decision {
	if t == nil {
		return Decision{}
	}
	if !source.SameTrustDomain(t.policy.TrustDomain) {
		return Decision{Reason: ReasonForeignTrustDomain}
	}
	if number := t.Match(source.Service); number > 0 {
		return t.verdicts[number-1]
	}
	return t.fallback
}

// DecideURI parses the source's SPIFFE ID and decides.
func (t *Table) DecideURI(source string) Decision {
	id, err := ParseID(source)
	if err != nil {
		return Decision{Reason: ReasonInvalidSource}
	}
	return t.Decide(id)
}

// Match returns the number of the first rule whose source is s, counted from
// 1, or 0. Names and namespaces compare exactly; s.Partition is in lower case
// already.
func (t *Table) Match(s Service) int32 {
	number := t.first[s]
	name := s.Name
	s.Name = Wildcard
	number = earlier(number, t.first[s])
	s.Namespace = Wildcard
	number = earlier(number, t.first[s])
	s.Name = name
	return earlier(number, t.first[s])
}

func earlier(a, b int32) int32 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
