package intentions

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/connectd/connectd/clients/testvectors"
)

// vectorCase is one case of a file with what replaying needs.
type vectorCase struct{ testvectors.Case }

func readVectors[C any](t testing.TB, name string) *testvectors.File[C] {
	t.Helper()
	f, err := testvectors.Read[C](name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func inWords(a testvectors.Answer) string {
	rule, permission := "null", "null"
	if a.Rule != nil {
		rule = *a.Rule
	}
	if a.Permission != nil {
		permission = fmt.Sprint(*a.Permission)
	}
	return fmt.Sprintf("%s (%s) rule %s permission %s", a.Decision, a.Reason, rule, permission)
}

// answerOf puts a decision in the words of the vectors.
func answerOf(p *Policy, d Decision) string {
	a := testvectors.Answer{Decision: d.Outcome.String(), Reason: d.Reason.String()}
	if d.Rule > 0 {
		a.Rule = &p.Rules[d.Rule-1].ID
	}
	if d.Permission > 0 {
		at := d.Permission - 1
		a.Permission = &at
	}
	return inWords(a)
}

// requestsOf returns a request as the HTTP libraries give it: with header names
// in lower case, and in the canonical form of net/http.
func requestsOf(r *testvectors.Request) []*Request {
	if r == nil {
		return []*Request{nil}
	}
	lower := &Request{Method: string(r.Method), Path: string(r.Path), Headers: map[string][]string{}}
	canonical := &Request{Method: string(r.Method), Path: string(r.Path), Headers: map[string][]string{}}
	for given, values := range r.Headers {
		name := strings.ToLower(given)
		for _, v := range values {
			if name == "host" {
				lower.Host, canonical.Host = string(v), string(v)
				continue
			}
			lower.Headers[name] = append(lower.Headers[name], string(v))
			canonical.Headers[canonicalName(name)] = append(canonical.Headers[canonicalName(name)], string(v))
		}
	}
	return []*Request{lower, canonical}
}

// replay compares every way of asking with the expected answer.
func (c *vectorCase) replay(t *testing.T, table *Table) {
	t.Helper()
	want := inWords(c.Answer)
	for _, r := range requestsOf(c.Request) {
		if got := answerOf(table.Policy(), table.DecideURI(string(c.Source), r)); got != want {
			t.Errorf("%s: got %s, want %s: %s", c.ID, got, want, c.Comment)
			return
		}
		id, err := ParseID(string(c.Source))
		if err != nil {
			continue
		}
		if got := answerOf(table.Policy(), table.DecideRequest(id, r)); got != want {
			t.Errorf("%s: by a parsed ID: got %s, want %s: %s", c.ID, got, want, c.Comment)
		}
		if got := answerOf(table.Policy(), table.Explain(string(c.Source), r).Decision); got != want {
			t.Errorf("%s: explained: got %s, want %s: %s", c.ID, got, want, c.Comment)
		}
	}
}

func TestVectorsIDs(t *testing.T) {
	f := readVectors[struct {
		testvectors.Head
		URI         testvectors.Text
		Valid       bool
		TrustDomain *string `json:"trust_domain"`
		Partition   *string
		Namespace   *string
		Datacenter  *string
		Name        *string
	}](t, "spiffe-ids.json")
	for _, c := range f.Cases {
		id, err := ParseID(string(c.URI))
		if (err == nil) != c.Valid {
			t.Errorf("%s: got %v, want valid %v: %s", c.ID, err, c.Valid, c.Comment)
			continue
		}
		if err != nil {
			continue
		}
		want := ID{*c.TrustDomain, Service{*c.Partition, *c.Namespace, *c.Name}, *c.Datacenter}
		if id != want {
			t.Errorf("%s: got %+v, want %+v", c.ID, id, want)
		}
	}
	t.Logf("%d SPIFFE IDs", len(f.Cases))
}

func TestVectorsL4(t *testing.T) { replayGroups(t, "l4.json") }

func TestVectorsL7(t *testing.T) { replayGroups(t, "l7.json") }

func replayGroups(t *testing.T, name string) {
	f := readVectors[vectorCase](t, name)
	n := 0
	for _, g := range f.Groups {
		p, err := ParsePolicy(g.Policy)
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
			continue
		}
		table := Compile(p)
		for i := range g.Cases {
			g.Cases[i].replay(t, table)
			n++
		}
	}
	t.Logf("%d decisions by %d policies", n, len(f.Groups))
}

// TestVectorsPoliciesFromIntentions rebuilds each policy from the intentions
// that it came from.
func TestVectorsPoliciesFromIntentions(t *testing.T) {
	n := 0
	for _, name := range []string{"l4.json", "l7.json"} {
		for _, g := range readVectors[vectorCase](t, name).Groups {
			var want Policy
			if err := json.Unmarshal(g.Policy, &want); err != nil {
				t.Fatalf("%s: %v", g.Name, err)
			}
			list, err := ParseIntentions(g.Intentions)
			if err != nil {
				t.Fatalf("%s: %v", g.Name, err)
			}
			got, _ := NewPolicy(want.Destination, want.TrustDomain,
				DefaultAction{Allow: want.DefaultAction == "allow", Origin: want.DefaultOrigin}, list)
			got.Normalization = want.Normalization
			if raw, _ := json.Marshal(got); !sameJSON(raw, g.Policy) {
				t.Errorf("%s: got %s, want %s", g.Name, raw, g.Policy)
			}
			n++
		}
	}
	t.Logf("%d policies from intentions", n)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

func TestVectorsNormalization(t *testing.T) {
	f := readVectors[struct {
		testvectors.Head
		Path       testvectors.Text
		Readable   bool
		Consul     *string
		Aggressive *string
		Decisions  []struct {
			Source testvectors.Text
			testvectors.Answer
		}
	}](t, "normalization.json")
	n, decisions := 0, 0
	for _, g := range f.Groups {
		p, err := ParsePolicy(g.Policy)
		if err != nil {
			t.Fatalf("%s: %v", g.Name, err)
		}
		table := Compile(p)
		for _, c := range g.Cases {
			got, ok := readPath(string(c.Path), &p.Normalization)
			if ok != c.Readable {
				t.Errorf("%s: got readable %v, want %v: %s", c.ID, ok, c.Readable, c.Comment)
			}
			if c.Consul != nil && (got.consul != *c.Consul || got.aggressive != *c.Aggressive) {
				t.Errorf("%s: got %+v, want %q and %q: %s", c.ID, got, *c.Consul, *c.Aggressive, c.Comment)
			}
			for _, d := range c.Decisions {
				q := vectorCase{testvectors.Case{
					Head: c.Head, Source: d.Source, Request: &testvectors.Request{Method: "GET", Path: c.Path}, Answer: d.Answer,
				}}
				q.replay(t, table)
				decisions++
			}
			n++
		}
	}
	t.Logf("%d paths, %d decisions", n, decisions)
}

func TestVectorsDocuments(t *testing.T) {
	f := readVectors[struct {
		testvectors.Head
		Document json.RawMessage
		Text     *string
		Valid    bool
		Cases    []vectorCase
	}](t, "documents.json")
	decisions := 0
	for _, c := range f.Cases {
		raw := []byte(c.Document)
		if c.Text != nil {
			raw = []byte(*c.Text)
		}
		p, err := ParsePolicy(raw)
		if (err == nil) != c.Valid {
			t.Errorf("%s: got %v, want valid %v: %s", c.ID, err, c.Valid, c.Comment)
			continue
		}
		if err != nil {
			continue
		}
		table := Compile(p)
		for i := range c.Cases {
			c.Cases[i].replay(t, table)
			decisions++
		}
	}
	t.Logf("%d documents, %d decisions", len(f.Cases), decisions)
}
