package connectd

import (
	"crypto/tls"
	"strconv"
	"strings"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Decide says whether the service with this SPIFFE ID may connect to ours, or
// whether its request may pass. A nil request asks about the connection alone.
// It decides in this process, unless the policy says something that this
// version does not understand: then it asks the daemon, for at most a second.
func (s *Snapshot) Decide(source string, r *intentions.Request) Decision {
	if s == nil {
		return Decision{Decision: Deny, Reason: ReasonNotReady}
	}
	d := s.decision(s.policy.table.DecideURI(source, r))
	if s.understood(d.local) {
		return d
	}
	return s.askDaemon(source, copied(r))
}

// DecideConn is about the peer of a connection, whose chain was verified when
// it shook hands.
func (s *Snapshot) DecideConn(state *tls.ConnectionState) Decision {
	return s.DecideRequest(state, nil)
}

// DecideRequest is about a request on a connection, whose chain was verified
// when it shook hands.
func (s *Snapshot) DecideRequest(state *tls.ConnectionState, r *intentions.Request) Decision {
	if s == nil || state == nil || len(state.PeerCertificates) == 0 {
		return Decision{Decision: Deny, Reason: ReasonNotReady}
	}
	uri, ok := sanURI(state.PeerCertificates[0])
	if !ok {
		return s.decision(intentions.Decision{Reason: intentions.ReasonInvalidSource})
	}
	d := s.decision(s.policy.table.DecideURI(uri, r))
	if s.understood(d.local) {
		return d
	}
	return s.askDaemon(strings.Clone(uri), copied(r))
}

func (s *Snapshot) decideID(id intentions.ID, r *intentions.Request) Decision {
	if s == nil {
		return Decision{Decision: Deny, Reason: ReasonNotReady}
	}
	d := s.decision(s.policy.table.DecideRequest(id, r))
	if s.understood(d.local) {
		return d
	}
	return s.askDaemon(id.String(), copied(r))
}

// decision gives what the table says its outer form, and denies what is too
// old to be believed.
func (s *Snapshot) decision(local intentions.Decision) Decision {
	age := s.age.age()
	if age > s.age.denyAfter {
		local = intentions.Decision{Reason: intentions.ReasonPolicyStale}
	}
	d := Decision{
		Decision: local.Outcome.String(), Allowed: local.Allowed(), Reason: local.Reason.String(),
		Index: s.policy.index, AgeSeconds: age.Seconds(), Freshness: Fresh, local: local, snapshot: s,
	}
	if age > freshFor {
		d.Freshness = Stale
	}
	return d
}

// freshFor is the age up to which the daemon calls an answer fresh.
const freshFor = 150 * time.Second

// understood reports whether the decision is not a denial for want of
// understanding on this side. What the daemon itself could not judge is no
// such denial.
func (s *Snapshot) understood(d intentions.Decision) bool {
	if d.Reason != intentions.ReasonUnsupported {
		return true
	}
	p := s.policy.table.Policy()
	return d.Rule > 0 && p.Rules[d.Rule-1].Reason != ""
}

// copied keeps the request of the usual path on the caller's stack.
func copied(r *intentions.Request) *intentions.Request {
	if r == nil {
		return nil
	}
	c := *r
	return &c
}

func (s *Snapshot) askDaemon(source string, r *intentions.Request) Decision {
	if s.ask == nil {
		return Decision{Decision: Deny, Reason: ReasonUnreachable}
	}
	q := Question{Destination: s.service.String(), Source: source}
	if r != nil {
		q.Request = &Request{Method: r.Method, Path: r.Path, Headers: s.asked(r)}
	}
	return s.ask(q)
}

// asked returns the headers that the policy looks at, under the names of the
// wire.
func (s *Snapshot) asked(r *intentions.Request) map[string][]string {
	out := map[string][]string{}
	for name, values := range r.Headers {
		if lower := strings.ToLower(name); s.policy.looksAt(lower) {
			out[lower] = append(out[lower], values...)
		}
	}
	if r.Host != "" && s.policy.looksAt("host") {
		out["host"] = []string{r.Host}
	}
	return out
}

func (p *heldPolicy) looksAt(header string) bool {
	for _, name := range p.headers {
		if name == header {
			return true
		}
	}
	return false
}

// MatchedRule describes what decided; nil if nothing matched. It is made when
// it is asked for: a decision costs less than its description.
func (d *Decision) MatchedRule() *Matched {
	if d.Matched != nil || d.snapshot == nil || d.local.Rule == 0 {
		return d.Matched
	}
	p := d.snapshot.policy.table.Policy()
	rule := &p.Rules[d.local.Rule-1]
	m := &Matched{
		Rule: rule.ID, Precedence: rule.Precedence,
		Source:      rule.Source.Namespace + "/" + rule.Source.Name,
		Destination: p.DestinationOf(rule).Namespace + "/" + p.DestinationOf(rule).Name,
	}
	if m.Rule == "" {
		m.Rule = "r" + strconv.Itoa(int(d.local.Rule))
	}
	if d.local.Permission > 0 {
		n := int(d.local.Permission - 1)
		m.Permission = &n
	}
	return m
}
