package socketapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// maxQuestions bounds a batch.
const maxQuestions = 256

// question asks whether a source may reach a destination, with a request
// where that is known.
type question struct {
	Destination string       `json:"destination"`
	Source      string       `json:"source"`
	Request     *requestWire `json:"request,omitempty"`
}

// requestWire is an HTTP request as far as permissions look at it.
type requestWire struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Headers map[string][]string `json:"headers,omitempty"`
}

type questions struct {
	question
	Requests *[]question `json:"requests,omitempty"`
}

// decisionWire is the answer to a question.
type decisionWire struct {
	Decision   string       `json:"decision"`
	Allowed    bool         `json:"allowed"`
	Reason     string       `json:"reason"`
	Index      uint64       `json:"index"`
	AgeSeconds float64      `json:"age_seconds"`
	Freshness  string       `json:"freshness"`
	Via        string       `json:"via,omitempty"`
	Matched    *matchedWire `json:"matched,omitempty"`
	// Explanation is sent where it was asked for.
	Explanation *explanationWire `json:"explanation,omitempty"`
}

type matchedWire struct {
	Rule        string `json:"rule"`
	Permission  *int   `json:"permission,omitempty"`
	Precedence  int    `json:"precedence"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

// viaLive marks a decision from a policy that was read for this question.
const viaLive = "live"

// authorize answers one question or a batch. Its destinations are in the
// body, so each question is admitted here, by answer.
func (a *api) authorize(c *call) error {
	var in questions
	if err := decodeBody(c, &in); err != nil {
		return err
	}
	if in.Requests == nil {
		d, err := a.answer(c, in.question)
		if err != nil {
			return err
		}
		return c.json(d)
	}
	if n := len(*in.Requests); n > maxQuestions {
		return &apiError{status: http.StatusRequestEntityTooLarge, code: CodeTooLarge,
			message: fmt.Sprintf("%d questions in one batch; at most %d are answered", n, maxQuestions)}
	}
	out := struct {
		Decisions []any `json:"decisions"`
	}{make([]any, 0, len(*in.Requests))}
	for _, q := range *in.Requests {
		d, err := a.answer(c, q)
		if errors.Is(err, errCallerGone) {
			return err
		}
		if err != nil {
			e := asAPIError(err)
			out.Decisions = append(out.Decisions, errorBody{errorDetail{e.code, e.message}})
			continue
		}
		out.Decisions = append(out.Decisions, d)
	}
	return c.json(out)
}

// answer admits and decides one question.
func (a *api) answer(c *call, q question) (*decisionWire, error) {
	destination, err := c.named(q.Destination)
	if err != nil {
		return nil, err
	}
	if q.Source == "" {
		return nil, badRequest("source is missing: the SPIFFE ID of the calling service")
	}
	if err := c.admitFor(destination); err != nil {
		return nil, err
	}
	snapshot, _ := a.cfg.Cache.Snapshot(destination)
	if snapshot == nil && a.cfg.Upstream != nil && c.URL.Query().Has("live") {
		return a.answerLive(c, destination, q)
	}
	c.services = []intentions.Service{destination}
	if snapshot, err = c.watched(blocking{}, false, hasPolicy); err != nil {
		return nil, err
	}
	request := q.Request.parse()
	d := snapshot.Decide(q.Source, request)
	out := wireDecision(d, snapshot.Policy, snapshot.Age(time.Now()))
	out.Explanation = c.explain(snapshot.Policy, q.Source, request)
	return out, nil
}

// parse puts header names in lower case; of no request it makes none.
func (r *requestWire) parse() *intentions.Request {
	if r == nil {
		return nil
	}
	out := &intentions.Request{
		Method: r.Method, Path: r.Path, Headers: make(map[string][]string, len(r.Headers)),
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		lower := strings.ToLower(name)
		out.Headers[lower] = append(out.Headers[lower], r.Headers[name]...)
	}
	if host := out.Headers["host"]; len(host) > 0 {
		out.Host = strings.Join(host, ",")
	}
	return out
}

// answerLive reads the policy of a destination that is not watched for this
// one question.
func (a *api) answerLive(c *call, destination intentions.Service, q question) (*decisionWire, error) {
	part, err := a.livePolicy(c, destination)
	if err != nil {
		return nil, err
	}
	request := q.Request.parse()
	out := wireDecision(part.Table.DecideURI(q.Source, request), part, 0)
	out.Via = viaLive
	out.Explanation = c.explain(part, q.Source, request)
	return out, nil
}

// livePolicy reads the policy of a destination for this one request.
func (a *api) livePolicy(c *call, destination intentions.Service) (*cache.PolicyPart, error) {
	if _, err := c.awaitBundle(blocking{}); err != nil {
		return nil, err
	}
	raw, err := a.cfg.Upstream.LiveIntentions(c.Context(), destination)
	if err != nil {
		return nil, err
	}
	return a.cfg.Cache.PolicyOf(destination, raw)
}

func wireDecision(d intentions.Decision, p *cache.PolicyPart, age time.Duration) *decisionWire {
	out := &decisionWire{
		Decision: d.Outcome.String(), Allowed: d.Allowed(), Reason: d.Reason.String(),
		Index: p.Index, AgeSeconds: seconds(age), Freshness: freshness(age),
	}
	if d.Rule == 0 {
		return out
	}
	policy := p.Table.Policy()
	rule := &policy.Rules[d.Rule-1]
	out.Matched = &matchedWire{
		Rule: rule.ID, Precedence: rule.Precedence,
		Source: qualified(rule.Source), Destination: qualified(policy.DestinationOf(rule)),
	}
	if d.Permission > 0 {
		n := int(d.Permission) - 1
		out.Matched.Permission = &n
	}
	return out
}

// qualified writes a service as Consul's tools do: namespace/name, with the
// partition in front where it is not the default one.
func qualified(s intentions.Service) string {
	text := s.Namespace + "/" + s.Name
	if s.Partition != intentions.DefaultPart {
		text = s.Partition + "/" + text
	}
	return text
}

// bodyError explains a body that is not what the route takes.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &apiError{status: http.StatusRequestEntityTooLarge, code: CodeTooLarge,
			message: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	}
	if errors.Is(err, io.EOF) {
		return badRequest("the body is empty; a JSON object is expected")
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return badRequest("the body is not JSON: %v at byte %d", err, syntax.Offset)
	}
	return badRequest("the body does not fit: %v", err)
}
