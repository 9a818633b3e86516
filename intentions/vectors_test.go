package intentions

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vectorText is a string of a vector file, which may be given in pieces.
type vectorText string

func (s *vectorText) UnmarshalJSON(raw []byte) error {
	var whole string
	if json.Unmarshal(raw, &whole) == nil {
		*s = vectorText(whole)
		return nil
	}
	var pieces []json.RawMessage
	if err := json.Unmarshal(raw, &pieces); err != nil {
		return err
	}
	var b strings.Builder
	for _, p := range pieces {
		if json.Unmarshal(p, &whole) == nil {
			b.WriteString(whole)
			continue
		}
		var long struct {
			Repeat string
			Times  int
			Hex    string
		}
		if err := strictly(p, &long); err != nil {
			return err
		}
		octets, err := hex.DecodeString(long.Hex)
		if err != nil {
			return err
		}
		b.WriteString(strings.Repeat(long.Repeat, long.Times) + string(octets))
	}
	*s = vectorText(b.String())
	return nil
}

type vectorHead struct {
	ID      string
	Flags   []string
	Comment string
}

type vectorAnswer struct {
	Decision   string
	Reason     string
	Rule       *string
	Permission *int32
}

type vectorRequest struct {
	Method, Path vectorText
	Headers      map[string][]vectorText
}

type vectorCase struct {
	vectorHead
	Source  vectorText
	Request *vectorRequest
	vectorAnswer
}

type vectorFile[Case any] struct {
	Schema string
	About  string
	Count  int
	Cases  []Case
	Groups []vectorGroup[Case]
}

type vectorGroup[Case any] struct {
	Name       string
	Intentions json.RawMessage
	Policy     json.RawMessage
	Cases      []Case
}

// strictly decodes JSON and refuses members that are not asked for.
func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func readVectors[Case any](t testing.TB, name string) *vectorFile[Case] {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "clients", "testvectors", name))
	if err != nil {
		t.Fatal(err)
	}
	f := new(vectorFile[Case])
	if err := strictly(raw, f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

func (a vectorAnswer) String() string {
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
func answerOf(p *Policy, d Decision) vectorAnswer {
	a := vectorAnswer{Decision: d.Outcome.String(), Reason: d.Reason.String()}
	if d.Rule > 0 {
		a.Rule = &p.Rules[d.Rule-1].ID
	}
	if d.Permission > 0 {
		at := d.Permission - 1
		a.Permission = &at
	}
	return a
}

// requests returns a request as the HTTP libraries give it: with header names
// in lower case, and in the canonical form of net/http.
func (r *vectorRequest) requests() []*Request {
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
	want := c.vectorAnswer.String()
	for _, r := range c.Request.requests() {
		if got := answerOf(table.Policy(), table.DecideURI(string(c.Source), r)).String(); got != want {
			t.Errorf("%s: got %s, want %s: %s", c.ID, got, want, c.Comment)
			return
		}
		id, err := ParseID(string(c.Source))
		if err != nil {
			continue
		}
		if got := answerOf(table.Policy(), table.DecideRequest(id, r)).String(); got != want {
			t.Errorf("%s: by a parsed ID: got %s, want %s: %s", c.ID, got, want, c.Comment)
		}
		if got := answerOf(table.Policy(), table.Explain(string(c.Source), r).Decision).String(); got != want {
			t.Errorf("%s: explained: got %s, want %s: %s", c.ID, got, want, c.Comment)
		}
	}
}

func TestVectorsIDs(t *testing.T) {
	f := readVectors[struct {
		vectorHead
		URI         vectorText
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
		vectorHead
		Path       vectorText
		Readable   bool
		Consul     *string
		Aggressive *string
		Decisions  []struct {
			Source vectorText
			vectorAnswer
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
				q := vectorCase{c.vectorHead, d.Source, &vectorRequest{Method: "GET", Path: c.Path}, d.vectorAnswer}
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
		vectorHead
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
