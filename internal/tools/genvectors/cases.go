package main

import (
	"encoding/json"
	"fmt"

	"github.com/connectd/connectd/internal/tools/genvectors/reference"
)

// head is what every case begins with.
type head struct {
	ID      string   `json:"id"`
	Flags   []string `json:"flags"`
	Comment string   `json:"comment"`
}

// l4Case is one question about a connection.
type l4Case struct {
	head
	Source   text    `json:"source"`
	Decision string  `json:"decision"`
	Reason   string  `json:"reason"`
	Rule     *string `json:"rule"`
}

// l7Case is one question about a request; a nil request asks about the
// connection.
type l7Case struct {
	head
	Source  text     `json:"source"`
	Request *request `json:"request"`
	reference.Answer
}

type request struct {
	Method  text              `json:"method"`
	Path    text              `json:"path"`
	Headers map[string][]text `json:"headers"`
}

// get asks for a path without headers.
func get(path string) *request { return ask("GET", path) }

// ask is a request; headers are pairs of a name and a value, and a name may
// come more than once.
func ask(method, path string, headers ...string) *request {
	r := &request{Method: plain(method), Path: plain(path), Headers: map[string][]text{}}
	for i := 0; i < len(headers); i += 2 {
		r.Headers[headers[i]] = append(r.Headers[headers[i]], plain(headers[i+1]))
	}
	return r
}

// expand returns the request as the reference takes it.
func (r *request) expand() *reference.Request {
	if r == nil {
		return nil
	}
	out := &reference.Request{Method: r.Method.String(), Path: r.Path.String(), Headers: map[string][]string{}}
	for name, values := range r.Headers {
		out.Headers[name] = []string{}
		for _, v := range values {
			out.Headers[name] = append(out.Headers[name], v.String())
		}
	}
	return out
}

// builder collects the cases of one group.
type builder struct {
	group
	// topic begins the ids of the group's cases.
	topic  string
	policy *reference.Policy
	flags  []string
	// consul tells what the agent answers, where that is of interest.
	consul func(source string) bool
}

// newBuilder starts a group with a policy document.
func newBuilder(topic string, policy any, flags ...string) *builder {
	raw, ok := policy.(json.RawMessage)
	if !ok {
		raw = compact(policy)
	}
	p, err := reference.ReadPolicy(raw)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", topic, err))
	}
	return &builder{group: group{Name: topic, Policy: raw}, topic: topic, policy: p, flags: flags}
}

func (b *builder) head(comment string, flags []string) head {
	all := []string{}
	for _, f := range append(append([]string{}, b.flags...), flags...) {
		if f != "" {
			all = append(all, f)
		}
	}
	return head{fmt.Sprintf("%s-%03d", b.topic, len(b.Cases)+1), all, comment}
}

// connect adds a question about a connection.
func (b *builder) connect(comment string, source text, flags ...string) {
	a := b.policy.Decide(source.String(), nil)
	if b.consul != nil && a.Decision != "allow" && b.consul(source.String()) {
		flags = append(flags, stricter)
	}
	b.Cases = append(b.Cases, l4Case{b.head(comment, flags), source, a.Decision, a.Reason, a.Rule})
}

// request adds a question about a request.
func (b *builder) request(comment string, source text, r *request, flags ...string) reference.Answer {
	a := b.policy.Decide(source.String(), r.expand())
	b.Cases = append(b.Cases, l7Case{b.head(comment, flags), source, r, a})
	return a
}

// stricter marks answers that deny where Consul would allow.
const stricter = "stricter-than-consul"

const trustDomain = "11111111-2222-3333-4444-555555555555.consul"

// from is the SPIFFE ID of a service of ours.
func from(name string) text {
	return plain("spiffe://" + trustDomain + "/ns/default/dc/dc1/svc/" + name)
}
