package intentions

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/connectd/connectd/clients/testvectors"
	"github.com/connectd/connectd/internal/tools/genvectors/reference"
)

// fuzzPolicy writes a policy with one permission that guards a path and one
// whose conditions come from the fuzzer, so that both readings of a path and
// every matcher are reached.
func fuzzPolicy(allow bool, n Normalization, match, value, headerMatch, headerValue string, flags byte) *Policy {
	action := func(first bool) string {
		if first {
			return "allow"
		}
		return "deny"
	}
	guarded := Permission{Action: "deny", Path: &PathMatch{MatchPrefix, "/admin"}}
	drawn := Permission{Action: action(flags&1 != 0), Path: &PathMatch{match, value}}
	if flags&2 != 0 {
		drawn.Headers = []HeaderMatch{{"x_h", headerMatch, headerValue, flags&4 != 0, flags&8 != 0}}
	}
	if flags&16 != 0 {
		drawn.Methods = []string{"GET"}
	}
	web, host := NewService("web"), HeaderMatch{"host", MatchSuffix, ".test", flags&4 != 0, true}
	return &Policy{
		Schema: PolicySchema, TrustDomain: "td.consul", Destination: NewService("db"), DefaultAction: action(allow),
		RequestHeaders: []string{"host", "x_h"}, Normalization: n,
		Rules: []Rule{
			{ID: "r1", Precedence: 9, Source: web, Permissions: []Permission{
				guarded, drawn, {Action: action(flags&32 != 0), Headers: []HeaderMatch{host}},
			}},
		},
	}
}

// pick takes one of the words, or the text itself where the number is beyond
// them.
func pick(number byte, beyond string, words ...string) string {
	if int(number) < len(words) {
		return words[number]
	}
	return beyond
}

func FuzzRequest(f *testing.F) {
	seedRequests(f)
	f.Fuzz(func(t *testing.T, method, path, host, one, two, value, headerValue string, matchers, norm, flags byte) {
		n := Normalization{
			Path: norm&1 == 0, MergeSlashes: norm&2 != 0,
			EscapedSlashes: pick(norm>>2&3, SlashesKeep, SlashesKeep, SlashesReject, SlashesUnescape),
			Underscores:    pick(norm>>4&3, UnderscoresAllow, UnderscoresAllow, UnderscoresReject, UnderscoresDrop),
		}
		p := fuzzPolicy(flags&64 != 0, n,
			pick(matchers&3, MatchExact, MatchExact, MatchPrefix, MatchRegex), value,
			pick(matchers>>2&7, "glob", MatchExact, MatchPrefix, MatchSuffix, MatchContains, MatchRegex, MatchPresent), headerValue, flags)
		raw, err := json.Marshal(p)
		if err != nil || !utf8.ValidString(value+headerValue) {
			t.Skip()
		}
		headers := map[string][]string{"x_h": {one, two}}
		if flags&128 != 0 {
			headers = map[string][]string{"x_h": {one}}
		}
		r := &Request{Method: method, Path: path, Host: host, Headers: headers}
		checkRequest(t, p, raw, r)
	})
}

// checkRequest compares the engine with the reference, and each reading by
// itself: what either denies is never allowed.
func checkRequest(t *testing.T, p *Policy, raw []byte, r *Request) {
	const source = "spiffe://td.consul/ns/default/dc/dc1/svc/web"
	table := Compile(p)
	got := table.DecideURI(source, r)
	if again := table.DecideURI(source, r); again != got {
		t.Errorf("got %v, and then %v", got, again)
	}
	obvious, err := reference.ReadPolicy(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	headers := map[string][]string{"host": {r.Host}, "x_h": r.Headers["x_h"]}
	want := obvious.Decide(source, &reference.Request{Method: r.Method, Path: r.Path, Headers: headers})
	if got.Allowed() && want.Decision != "allow" {
		t.Errorf("%s: got allow for %+v, want %s (%s)", raw, r, want.Decision, want.Reason)
	}
	// RE2 quotes to the end of the expression after \Q, which what is put
	// around the expression here breaks: such a rule cannot be judged.
	if !strings.Contains(string(raw), `\\Q`) && (got.Outcome.String() != want.Decision || got.Reason.String() != want.Reason) {
		t.Errorf("%s: got %s (%s) for %+v, want %s (%s)", raw, got.Outcome, got.Reason, r, want.Decision, want.Reason)
	}
	n := reference.Normalization(p.Normalization)
	consul, aggressive, ok := reference.ReadPath(n, r.Path)
	if got.Allowed() && (!ok || strings.HasPrefix(consul, "/admin") || strings.HasPrefix(aggressive, "/admin")) {
		t.Errorf("got allow for %q, which can be read as %q or %q", r.Path, consul, aggressive)
	}
}

// seedRequests takes the paths and the values of the vectors.
func seedRequests(f *testing.F) {
	paths := readVectors[struct {
		testvectors.Head
		Path               testvectors.Text
		Readable           bool
		Consul, Aggressive *string
		Decisions          []struct {
			Source testvectors.Text
			testvectors.Answer
		}
	}](f, "normalization.json")
	for i, g := range paths.Groups {
		for j, c := range g.Cases {
			if len(c.Path) < 300 {
				f.Add("GET", string(c.Path), "db.test", "a", "b", "/public", "a,b", byte(j), byte(i), byte(35+j))
			}
		}
	}
	for i, g := range readVectors[vectorCase](f, "l7.json").Groups {
		for j, c := range g.Cases {
			if r := c.Request; r != nil && len(r.Path) < 300 && j%7 == 0 {
				f.Add(string(r.Method), string(r.Path), "DB.test", "gold", "", "/v[0-9]+(/.*)?", "(?i)GOLD,?", byte(j), byte(i), byte(i*j))
			}
		}
	}
}

// FuzzParsePolicy holds reading documents to the reference. What a document
// allows, it allows there too, and again after it was written and read.
func FuzzParsePolicy(f *testing.F) {
	type documentCase struct {
		testvectors.Head
		Document json.RawMessage
		Text     *string
		Valid    bool
		Cases    []vectorCase
	}
	for _, c := range readVectors[documentCase](f, "documents.json").Cases {
		if c.Text != nil {
			f.Add([]byte(*c.Text))
		} else {
			f.Add([]byte(c.Document))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := ParsePolicy(raw); err != nil {
			return
		}
		// Members that come twice, or in another letter case, are read
		// differently by every language: they are no part of the contract.
		var members any
		if json.Unmarshal(raw, &members) != nil || !exactNames(members) {
			return
		}
		canonical, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePolicy(canonical)
		if err != nil {
			return
		}
		obvious, err := reference.ReadPolicy(canonical)
		if err != nil {
			t.Fatalf("%s: read, but the reference refuses it: %v", canonical, err)
		}
		compareDocuments(t, canonical, Compile(p), obvious)
	})
}

func compareDocuments(t *testing.T, raw []byte, table *Table, obvious *reference.Policy) {
	p := table.Policy()
	written, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	sources := []string{"spiffe://td.consul/ns/default/dc/dc1/svc/web", "spiffe://" + p.TrustDomain + "/ns/default/dc/dc1/svc/x"}
	for i := range p.Rules[:min(len(p.Rules), 20)] {
		s := p.Rules[i].Source
		sources = append(sources, ID{p.TrustDomain, s, "dc1"}.String())
	}
	r := &Request{Method: "GET", Path: "/v1/x", Headers: map[string][]string{"x-a": {"1"}}}
	again, err := ParsePolicy(written)
	if err != nil && p.Schema == PolicySchema && !slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.unknown }) {
		t.Errorf("%s: does not survive being written: %v", raw, err)
	}
	for _, source := range sources {
		got := table.DecideURI(source, r)
		want := obvious.Decide(source, &reference.Request{Method: r.Method, Path: r.Path, Headers: r.Headers})
		if got.Allowed() && want.Decision != "allow" {
			t.Errorf("%s: got allow for %s, want %s (%s)", raw, source, want.Decision, want.Reason)
		}
		if err == nil && p.Schema == PolicySchema && got.Reason != ReasonUnsupported {
			if second := Compile(again).DecideURI(source, r); second != got {
				t.Errorf("%s: got %v for %s, and %v after writing", raw, got, source, second)
			}
		}
	}
}
