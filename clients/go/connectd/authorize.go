package connectd

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/connectd/connectd/intentions"
)

// Question asks whether a source may reach a destination.
type Question struct {
	// Destination is the called service: its name, or
	// partition/namespace/name.
	Destination string
	// Source is the SPIFFE ID of the calling service.
	Source string
	// Request is what permissions are judged by; nil asks for the connection
	// alone.
	Request *Request
	// Live reads the intentions of a destination that is not watched from
	// upstream for this question, instead of watching it from now on.
	Live bool
	// Explain asks for Decision.Explanation. It is for people to read, and
	// costs more than the decision.
	Explain bool
}

// Request is an HTTP request as far as permissions look at it. Names of
// headers are in lower case, and "host" is the authority.
type Request struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Headers map[string][]string `json:"headers,omitempty"`
}

// Words of Decision.Decision.
const (
	Deny       = "deny"
	Allow      = "allow"
	PerRequest = "per_request"
)

// Reasons that this side gives for a denial without an answer.
const (
	ReasonUnreachable = "unreachable"
	ReasonNotReady    = "not_ready"
	// ReasonPolicyStale means that upstream confirmed the policy too long ago.
	ReasonPolicyStale = "policy_stale"
)

// Decision is the answer to a question. Its zero value does not allow.
type Decision struct {
	Decision string `json:"decision"`
	// Allowed is true for allow alone: whoever cannot judge requests treats
	// per_request as deny.
	Allowed    bool    `json:"allowed"`
	Reason     string  `json:"reason"`
	Index      uint64  `json:"index"`
	AgeSeconds float64 `json:"age_seconds"`
	Freshness  string  `json:"freshness"`
	// Via is "live" where the intentions were read for this question.
	Via string `json:"via,omitempty"`
	// Matched is what decided; nil if nothing matched.
	Matched *Matched `json:"matched,omitempty"`
	// Explanation is nil unless it was asked for.
	Explanation *Explanation `json:"explanation,omitempty"`

	// local and snapshot are set where the decision was made in this process.
	local    intentions.Decision
	snapshot *Snapshot
}

// Matched is the rule that decided, and the number of its permission from 0.
type Matched struct {
	Rule        string `json:"rule"`
	Permission  *int   `json:"permission,omitempty"`
	Precedence  int    `json:"precedence"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

// Answer is the decision on one question of a batch, or why there is none.
type Answer struct {
	Decision Decision
	Err      error
}

// Authorize asks for one decision. With an error the decision is deny.
func (c *Client) Authorize(ctx context.Context, q Question) (Decision, error) {
	destination, err := parseService(q.Destination)
	if err != nil {
		return denied(err), err
	}
	r := authorize(q.wire(destination), destination, q)
	d, err := ask[Decision](ctx, c, r)
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return denied(err), err
	}
	return *d, nil
}

// AuthorizeBatch asks for up to 256 decisions at once; answer n belongs to
// question n. All destinations lie in the same namespace and partition. One
// live question makes all of them live, and one that asks for an explanation
// gets one for all.
func (c *Client) AuthorizeBatch(ctx context.Context, questions []Question) ([]Answer, error) {
	in := struct {
		Requests []questionWire `json:"requests"`
	}{make([]questionWire, 0, len(questions))}
	var place intentions.Service
	var all Question
	for i, q := range questions {
		destination, err := parseService(q.Destination)
		if err != nil {
			return nil, err
		}
		if i > 0 && (destination.Namespace != place.Namespace || destination.Partition != place.Partition) {
			return nil, badRequest("the destinations of a batch lie in one namespace; ask for %s separately", destination)
		}
		place, all.Live, all.Explain = destination, all.Live || q.Live, all.Explain || q.Explain
		in.Requests = append(in.Requests, q.wire(destination))
	}
	out, err := ask[struct {
		Decisions []answerWire `json:"decisions"`
	}](ctx, c, authorize(in, place, all))
	if err != nil {
		return nil, err
	}
	if len(out.Decisions) != len(questions) {
		return nil, invalidAnswer("%d decisions came back for %d questions", len(out.Decisions), len(questions))
	}
	answers := make([]Answer, len(questions))
	for i := range out.Decisions {
		answers[i] = out.Decisions[i].answer()
	}
	return answers, nil
}

// authorize is the request that carries questions about services in the
// namespace and partition of place, to be answered in the manner of how.
func authorize(body any, place intentions.Service, how Question) request {
	r := request{method: http.MethodPost, path: "/v1/authorize", query: url.Values{}, body: body, hold: firstHold}
	if place.Name != "" {
		addParts(r.query, place)
	}
	if how.Live {
		r.query.Set("live", "")
	}
	if how.Explain {
		r.query.Set("explain", "")
	}
	return r
}

type questionWire struct {
	Destination string   `json:"destination"`
	Source      string   `json:"source"`
	Request     *Request `json:"request,omitempty"`
}

func (q Question) wire(destination intentions.Service) questionWire {
	return questionWire{destination.Name, q.Source, q.Request}
}

type answerWire struct {
	Decision
	errorDocument
}

func (w *answerWire) answer() Answer {
	var err error
	if w.Error != nil {
		err = w.Error.err()
	} else {
		err = w.Decision.check()
	}
	if err != nil {
		return Answer{Decision: denied(err), Err: err}
	}
	return Answer{Decision: w.Decision}
}

// check refuses a decision that contradicts itself, so that no reading of it
// is wider than another.
func (d *Decision) check() error {
	known := d.Decision == Deny || d.Decision == Allow || d.Decision == PerRequest
	if !known || d.Allowed != (d.Decision == Allow) {
		return invalidAnswer("the daemon's decision %q with allowed=%t is not one; are daemon and client of the same release?",
			d.Decision, d.Allowed)
	}
	return nil
}

// denied is the decision where there is no answer.
func denied(err error) Decision {
	reason := ReasonUnreachable
	var e *Error
	if errors.As(err, &e) && e.Code == CodeNotReady {
		reason = ReasonNotReady
	}
	return Decision{Decision: Deny, Reason: reason}
}
