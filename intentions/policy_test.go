package intentions

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestPrecedence(t *testing.T) {
	exact, inNamespace, everywhere := NewService("a"), NewService(Wildcard), Service{DefaultPart, Wildcard, Wildcard}
	tests := []struct {
		name                string
		source, destination Service
		want                int
	}{
		{"exact-exact", exact, exact, 9}, {"namespace-exact", inNamespace, exact, 8}, {"all-exact", everywhere, exact, 7},
		{"exact-namespace", exact, inNamespace, 6}, {"namespace-namespace", inNamespace, inNamespace, 5}, {"all-namespace", everywhere, inNamespace, 4},
		{"exact-all", exact, everywhere, 3}, {"namespace-all", inNamespace, everywhere, 2}, {"all-all", everywhere, everywhere, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Precedence(tt.source, tt.destination); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// TestDecidingOrder lists rows in deciding order and hands them over reversed.
func TestDecidingOrder(t *testing.T) {
	rows := []string{
		`{"SourceName":"z","DestinationName":"db","Action":"allow","Precedence":9}`,
		`{"SourceName":"a","DestinationName":"db","Action":"allow","Precedence":8}`,
		`{"SourceName":"b","DestinationName":"db","Action":"allow","Precedence":8}`,
		`{"SourceNS":"default","SourceName":"a","DestinationName":"db","Action":"allow","Precedence":8}`,
		`{"SourcePartition":"x","SourceName":"a","DestinationName":"db","Action":"allow","Precedence":8}`,
		`{"SourcePeer":"p","SourceName":"a","DestinationName":"db","Action":"allow","Precedence":8}`,
		`{"SourceSamenessGroup":"g","SourceName":"a","DestinationName":"db","Action":"allow","Precedence":8}`,
		`{"SourceName":"a","DestinationName":"*","Action":"deny","Precedence":6}`,
		`{"SourceName":"a","DestinationName":"*","Permissions":[{"Action":"allow","HTTP":{"PathPrefix":"/"}}],"Precedence":6}`,
		`{"SourceName":"a","DestinationName":"*","Action":"allow","Precedence":6}`,
	}
	reversed := slices.Clone(rows)
	slices.Reverse(reversed)
	a, err := ParseIntentions([]byte("[" + strings.Join(rows, ",") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseIntentions([]byte("[" + strings.Join(reversed, ",") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Error("the order depends on how the rows arrive")
	}
	for i, raw := range rows {
		var want Intention
		if err := json.Unmarshal([]byte(raw), &want); err != nil {
			t.Fatal(err)
		}
		if a[i].identity() != want.identity() {
			t.Errorf("place %d: got %s, want %s", i, a[i].String(), want.String())
		}
	}
}

func TestParseIntentionsRefuses(t *testing.T) {
	for name, raw := range map[string]string{
		"object": `{}`, "text": `"x"`, "number": `1`, "cut": `[{"SourceName":"a"`, "null-row": `[null]`, "text-row": `["x"]`,
		"no-source": `[{"DestinationName":"db"}]`, "no-destination": `[{"SourceName":"a"}]`,
		"unknown-action":     `[{"SourceName":"a","DestinationName":"db","Action":"permit"}]`,
		"upper-action":       `[{"SourceName":"a","DestinationName":"db","Action":"ALLOW"}]`,
		"action-number":      `[{"SourceName":"a","DestinationName":"db","Action":1}]`,
		"permissions-object": `[{"SourceName":"a","DestinationName":"db","Permissions":{}}]`,
		"precedence-text":    `[{"SourceName":"a","DestinationName":"db","Precedence":"9"}]`,
		"one-bad-of-two":     `[{"SourceName":"a","DestinationName":"db","Action":"deny"},{}]`,
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseIntentions([]byte(raw)); err == nil || got != nil {
				t.Errorf("got %v, %v; want an error alone", got, err)
			}
		})
	}
	for _, raw := range []string{"", "null", " null ", "[]"} {
		if got, err := ParseIntentions([]byte(raw)); err != nil || len(got) != 0 {
			t.Errorf("%q: got %v, %v; want none", raw, got, err)
		}
	}
}

func TestIntentionString(t *testing.T) {
	tests := []struct{ name, row, want string }{
		{"allow", `{"SourceNS":"default","SourceName":"web","DestinationNS":"default","DestinationName":"db","Action":"allow","Precedence":9}`,
			"default/web => default/db (Precedence: 9, Action: ALLOW)"},
		{"no-namespaces", `{"SourceName":"*","DestinationName":"db","Action":"deny","Precedence":8}`, "default/* => default/db (Precedence: 8, Action: DENY)"},
		{"id", `{"ID":"abc","SourceName":"web","DestinationName":"db","Action":"deny","Precedence":9}`, "default/web => default/db (ID: abc, Precedence: 9, Action: DENY)"},
		{"permissions", `{"SourceName":"web","DestinationName":"db","Permissions":[{},{}],"Precedence":9}`, "default/web => default/db (Precedence: 9, Permissions: 2)"},
		{"peer", `{"SourcePeer":"east","SourceName":"web","DestinationName":"db","Action":"allow","Precedence":9}`, "peer(east)/default/web => default/db (Precedence: 9, Action: ALLOW)"},
		{"group", `{"SourceSamenessGroup":"g","SourceName":"web","DestinationName":"db","Action":"allow","Precedence":9}`, "sameness-group(g)/default/web => default/db (Precedence: 9, Action: ALLOW)"},
		{"partitions", `{"SourcePartition":"a","SourceName":"web","DestinationPartition":"b","DestinationName":"db","Action":"allow","Precedence":9}`, "a/default/web => b/default/db (Precedence: 9, Action: ALLOW)"},
		{"no-action", `{"SourceName":"web","DestinationName":"db","Precedence":9}`, "default/web => default/db (Precedence: 9, Action: )"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var x Intention
			if err := x.parse([]byte(tt.row)); err != nil {
				t.Fatal(err)
			}
			if got := x.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	permission := func(p string) string { return `"Permissions":[{"Action":"allow","HTTP":{"PathPrefix":"/"}},` + p + `]` }
	tests := []struct{ name, members string }{
		{"sameness-group", `"Action":"allow","SourceSamenessGroup":"g"`},
		{"jwt", `"Action":"allow","JWT":{"Providers":[{"Name":"okta"}]}`},
		{"empty-jwt", `"Action":"allow","JWT":{}`},
		{"source-type", `"Action":"allow","SourceType":"vm"`},
		{"unknown-member", `"Action":"allow","OnlyAtNight":true`},
		{"member-in-another-case", `"Action":"deny","action":"allow"`},
		{"action-and-permissions", `"Action":"allow",` + permission(`{"Action":"allow","HTTP":{"PathPrefix":"/a"}}`)},
		{"permission-jwt", permission(`{"Action":"allow","HTTP":{"PathPrefix":"/a"},"JWT":{"Providers":[{"Name":"okta"}]}}`)},
		{"permission-unknown-member", permission(`{"Action":"allow","HTTP":{"PathPrefix":"/a"},"When":"now"}`)},
		{"permission-unknown-condition", permission(`{"Action":"allow","HTTP":{"PathSuffix":"/a"}}`)},
		{"permission-unknown-header-condition", permission(`{"Action":"allow","HTTP":{"Header":[{"Name":"x","Like":"a"}]}}`)},
		{"permission-unknown-action", permission(`{"Action":"log","HTTP":{"PathPrefix":"/a"}}`)},
		{"permission-no-action", permission(`{"HTTP":{"PathPrefix":"/a"}}`)},
		{"permission-no-http", permission(`{"Action":"allow"}`)},
		{"permission-two-paths", permission(`{"Action":"allow","HTTP":{"PathPrefix":"/a","PathExact":"/b"}}`)},
		{"permission-two-header-conditions", permission(`{"Action":"allow","HTTP":{"Header":[{"Name":"x","Exact":"a","Present":true}]}}`)},
		{"permission-no-header-condition", permission(`{"Action":"allow","HTTP":{"Header":[{"Name":"x"}]}}`)},
		{"permission-nameless-header", permission(`{"Action":"allow","HTTP":{"Header":[{"Exact":"a"}]}}`)},
		{"permission-null", permission(`null`)},
		{"permission-text", permission(`"x"`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw := `[{"SourceName":"web","DestinationName":"db","Precedence":9,` + tt.members + `},` +
				`{"SourceName":"*","DestinationName":"db","Action":"allow","Precedence":8}]`
			list, err := ParseIntentions([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			p, _ := NewPolicy(NewService("db"), worldDomain, DefaultAction{Allow: true}, list)
			if r := p.Rules[0]; r.Action != "deny" || r.Reason != "unsupported" || r.Permissions != nil || r.Requires != nil {
				t.Errorf("got rule %+v, want an unsupported denial", r)
			}
			want := Decision{Rule: 1, Reason: ReasonUnsupported}
			if got := Compile(p).DecideURI("spiffe://td.consul/ns/default/dc/dc1/svc/web", nil); got != want {
				t.Errorf("got %+v, want %+v: a rule that cannot be judged must not be skipped", got, want)
			}
			if got := Compile(p).DecideURI("spiffe://td.consul/ns/default/dc/dc1/svc/other", nil); !got.Allowed() {
				t.Errorf("another source: got %+v, want allow", got)
			}
		})
	}
}

func TestZeroValuesDeny(t *testing.T) {
	var d Decision
	if d.Allowed() || d.Outcome.String() != "deny" || d.Reason.String() != "not_ready" {
		t.Errorf("got %v for %v, want a denial because nothing is known", d.Outcome, d.Reason)
	}
	var none *Table
	id := ID{TrustDomain: worldDomain, Service: NewService("web"), Datacenter: "dc1"}
	if got := none.Decide(id); got != d {
		t.Errorf("a nil table gives %+v, want %+v", got, d)
	}
	if got := none.DecideURI(id.String(), nil); got != d {
		t.Errorf("a nil table gives %+v by text, want %+v", got, d)
	}
	if got := Compile(&Policy{}).Decide(id); got.Outcome != Deny {
		t.Errorf("an empty policy gives %+v, want deny", got)
	}
	if got := Compile(&Policy{TrustDomain: worldDomain, Rules: []Rule{{Source: NewService("web")}}}).Decide(id); got.Outcome != Deny {
		t.Errorf("a rule without an action gives %+v, want deny", got)
	}
	if (DefaultAction{}).Action() != "deny" || outcomeOf("") != Deny || outcomeOf("ALLOW") != Deny {
		t.Error("what does not say allow allows")
	}
	if (Decision{Outcome: PerRequest}).Allowed() {
		t.Error("a decision that needs a request lets a caller pass")
	}
}

// TestPolicyDocument compares the whole document with the one that clients
// were written against.
func TestPolicyDocument(t *testing.T) {
	rows, err := os.ReadFile("testdata/policy-rows.json")
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseIntentions(rows)
	if err != nil {
		t.Fatal(err)
	}
	p, rowOfRule := NewPolicy(NewService("db"), worldDomain, DefaultAction{Origin: OriginAgent}, list)
	got, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/policy.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(got)+"\n" != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for i, n := range rowOfRule {
		if list[n].SourcePeer != "" || list[n].Precedence != p.Rules[i].Precedence {
			t.Errorf("rule %d is said to come from %s", i+1, list[n].String())
		}
	}
	again, err := ParsePolicy(got)
	if err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("got %+v, %v from the document, want %+v", again, err, p)
	}
}

func TestEmptyPolicyDocument(t *testing.T) {
	p, _ := NewPolicy(NewService("db"), worldDomain, DefaultAction{}, nil)
	got, err := json.Marshal(p)
	want := `{"schema":1,"trust_domain":"td.consul","destination":{"partition":"default","namespace":"default","name":"db"},` +
		`"default_action":"deny","default_origin":"unknown","request_headers":[],` +
		`"normalization":{"path":true,"merge_slashes":false,"escaped_slashes":"keep","underscores":"allow"},"rules":[]}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestDestinationOf(t *testing.T) {
	p := &Policy{Destination: NewService("db")}
	for precedence, want := range map[int]Service{
		9: NewService("db"), 8: NewService("db"), 7: NewService("db"), 6: NewService(Wildcard), 4: NewService(Wildcard),
		3: {DefaultPart, Wildcard, Wildcard}, 1: {DefaultPart, Wildcard, Wildcard},
	} {
		if got := p.DestinationOf(&Rule{Precedence: precedence}); got != want {
			t.Errorf("%d: got %v, want %v", precedence, got, want)
		}
	}
}
