package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/internal/tools/genvectors/reference"
)

const policySchema = "docs/policy.schema.json"

// validate checks a policy as clients receive it.
func validate(s *jsonschema.Schema, p *intentions.Policy) ([]byte, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return raw, s.Validate(v)
}

// TestVectorsPolicySchemaRecorded builds the policy of every destination that
// was recorded and validates it.
func TestVectorsPolicySchemaRecorded(t *testing.T) {
	s := compileSchema(t, policySchema)
	raw, err := os.ReadFile(filepath.Join(top, vectorsDir, "consul-authorize.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rec struct {
		Scenarios []struct{ Intentions json.RawMessage }
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, scenario := range rec.Scenarios {
		list, err := intentions.ParseIntentions(scenario.Intentions)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			p, _ := intentions.NewPolicy(list[i].Destination(), "td.consul", intentions.DefaultAction{}, list)
			if raw, err := validate(s, p); err != nil {
				t.Errorf("%s: %v", raw, err)
			}
			n++
		}
	}
	t.Logf("%d policies", n)
}

// drawPermission draws a permission as Consul could write it, and at times one
// that it could not.
func drawPermission(t *rapid.T) map[string]any {
	http := map[string]any{}
	word := rapid.SampledFrom([]string{"", "/", "/a", "a(", "x|y", "é", "*"})
	if v := word.Draw(t, "path"); v != "" {
		http[rapid.SampledFrom([]string{"PathExact", "PathPrefix", "PathRegex", "PathGlob"}).Draw(t, "match")] = v
	}
	if rapid.Bool().Draw(t, "methods") {
		http["Methods"] = rapid.SliceOfN(rapid.SampledFrom([]string{"GET", "PUT", "PURGE", ""}), 0, 3).Draw(t, "names")
	}
	var headers []any
	for range rapid.IntRange(0, 2).Draw(t, "headers") {
		h := map[string]any{"Name": rapid.SampledFrom([]string{"x", "X-Y", "Host", "", ":path"}).Draw(t, "header")}
		for range rapid.IntRange(0, 2).Draw(t, "conditions") {
			h[rapid.SampledFrom([]string{"Exact", "Prefix", "Suffix", "Contains", "Regex"}).Draw(t, "condition")] = word.Draw(t, "value")
		}
		for _, flag := range []string{"Present", "Invert", "IgnoreCase"} {
			h[flag] = rapid.Bool().Draw(t, flag)
		}
		headers = append(headers, h)
	}
	if headers != nil {
		http["Header"] = headers
	}
	p := map[string]any{"Action": rapid.SampledFrom([]string{"allow", "deny", "audit"}).Draw(t, "action"), "HTTP": http}
	if rapid.IntRange(0, 9).Draw(t, "jwt") == 0 {
		p["JWT"] = map[string]any{"Providers": []any{map[string]any{"Name": "okta"}}}
	}
	return p
}

func drawRow(t *rapid.T) map[string]any {
	name := rapid.SampledFrom([]string{"a", "B", "*", "é/", "c.d"})
	r := map[string]any{
		"SourceName": name.Draw(t, "source"), "DestinationName": name.Draw(t, "destination"),
		"Precedence": rapid.IntRange(1, 9).Draw(t, "precedence"),
	}
	optional := func(member string, values ...any) {
		if v := rapid.SampledFrom(append(values, nil)).Draw(t, member); v != nil {
			r[member] = v
		}
	}
	optional("SourceNS", "default", "*", "Shop", "")
	optional("SourcePartition", "default", "Team", "")
	optional("SourcePeer", "", "cloud")
	optional("SourceSamenessGroup", "", "friends")
	optional("SourceType", "consul", "external")
	optional("Future", 1)
	optional("Action", "allow", "deny", "")
	if rapid.Bool().Draw(t, "l7") {
		r["Permissions"] = rapid.SliceOfN(rapid.Custom(drawPermission), 0, 3).Draw(t, "permissions")
	}
	return r
}

// TestVectorsPolicySchemaRandom also has the reference read what NewPolicy
// writes and decide like the engine.
func TestVectorsPolicySchemaRandom(t *testing.T) {
	s := compileSchema(t, policySchema)
	rapid.Check(t, func(t *rapid.T) {
		rows, err := json.Marshal(rapid.SliceOfN(rapid.Custom(drawRow), 0, 6).Draw(t, "rows"))
		if err != nil {
			t.Fatal(err)
		}
		list, err := intentions.ParseIntentions(rows)
		if err != nil {
			t.Fatal(err)
		}
		fallback := intentions.DefaultAction{Allow: rapid.Bool().Draw(t, "allow")}
		p, _ := intentions.NewPolicy(intentions.NewService("db"), "td.consul", fallback, list)
		raw, err := validate(s, p)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		parsed, err := intentions.ParsePolicy(raw)
		if err != nil {
			t.Fatal(err)
		}
		obvious, err := reference.ReadPolicy(raw)
		if err != nil {
			t.Fatal(err)
		}
		source := "spiffe://td.consul/ns/" + rapid.SampledFrom([]string{"default", "Shop"}).Draw(t, "namespace") +
			"/dc/dc1/svc/" + rapid.SampledFrom([]string{"a", "B", "x", "c.d"}).Draw(t, "caller")
		r := &intentions.Request{Method: "GET", Path: "/a", Headers: map[string][]string{"x": {"x"}}}
		got := intentions.Compile(parsed).DecideURI(source, r)
		want := obvious.Decide(source, &reference.Request{Method: r.Method, Path: r.Path, Headers: r.Headers})
		if got.Outcome.String() != want.Decision || got.Reason.String() != want.Reason {
			t.Fatalf("%s of %s: got %s (%s), want %s (%s)", raw, source, got.Outcome, got.Reason, want.Decision, want.Reason)
		}
	})
}
