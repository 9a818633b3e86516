package intentions

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const tested = "td.consul"

func idOf(partition, namespace, name string) string {
	return ID{TrustDomain: tested, Service: Service{partition, namespace, name}, Datacenter: "dc1"}.String()
}

// drawPolicy draws rules of every shape, so many that not all are listed.
func drawPolicy(t *rapid.T) *Policy {
	p := &Policy{
		Schema: rapid.SampledFrom([]int{1, 1, 1, 1, 2}).Draw(t, "schema"), TrustDomain: tested, Destination: NewService("db"),
		DefaultAction: rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "default"), DefaultOrigin: OriginConfig,
		Normalization: Normalization{
			Path: rapid.Bool().Draw(t, "normalize"), MergeSlashes: rapid.Bool().Draw(t, "merge"),
			EscapedSlashes: rapid.SampledFrom([]string{SlashesKeep, SlashesReject, SlashesUnescape}).Draw(t, "escaped"),
			Underscores:    rapid.SampledFrom([]string{UnderscoresAllow, UnderscoresReject, UnderscoresDrop}).Draw(t, "underscores"),
		},
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "rules") * rapid.SampledFrom([]int{1, 1, 6}).Draw(t, "times") {
		r := Rule{ID: fmt.Sprintf("r%d", i+1), Precedence: rapid.IntRange(1, 9).Draw(t, "precedence"), Source: Service{
			Partition: rapid.SampledFrom([]string{"default", "default", "p"}).Draw(t, "partition"),
			Namespace: rapid.SampledFrom([]string{"default", "default", "n", "*"}).Draw(t, "namespace"),
			Name:      rapid.SampledFrom([]string{"web", "WEB", "api", "jobs", "other", "a b", "*"}).Draw(t, "name"),
		}}
		switch rapid.IntRange(0, 5).Draw(t, "shape") {
		case 0:
			r.Action = rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "action")
		case 1:
			r = r.unsupported()
		default:
			for range rapid.IntRange(1, 3).Draw(t, "permissions") {
				r.Permissions = append(r.Permissions, drawPermission(t))
			}
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

func drawPermission(t *rapid.T) Permission {
	p := Permission{Action: rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "permission")}
	if rapid.Bool().Draw(t, "has_path") {
		p.Path = &PathMatch{
			Match: rapid.SampledFrom([]string{MatchExact, MatchPrefix, MatchRegex, "later"}).Draw(t, "path_match"),
			Value: rapid.SampledFrom([]string{"/", "/v1/", "/v1/admin", "/v1%2fadmin", "(/[a-z0-9]+)+"}).Draw(t, "path_value"),
		}
	}
	if rapid.Bool().Draw(t, "has_methods") {
		p.Methods = rapid.SampledFrom([][]string{{"GET"}, {"PUT", "POST"}}).Draw(t, "methods")
	}
	for range rapid.IntRange(0, 2).Draw(t, "headers") {
		h := HeaderMatch{
			Name: rapid.SampledFrom([]string{"authorization", "x_tenant", "host"}).Draw(t, "header"),
			Match: rapid.SampledFrom([]string{
				MatchPresent, MatchExact, MatchPrefix, MatchSuffix, MatchContains, MatchRegex,
			}).Draw(t, "header_match"),
			Invert: rapid.Bool().Draw(t, "invert"),
		}
		if h.Match != MatchPresent {
			h.Value = rapid.SampledFrom([]string{"Hidden", "hidden-1", "1", "h.*-2"}).Draw(t, "pattern")
		}
		if h.Match != MatchPresent && h.Match != MatchRegex {
			h.IgnoreCase = rapid.Bool().Draw(t, "ignore_case")
		}
		p.Headers = append(p.Headers, h)
	}
	return p
}

func drawRequest(t *rapid.T) *Request {
	if rapid.IntRange(0, 4).Draw(t, "connection_only") == 0 {
		return nil
	}
	values := rapid.SliceOfN(rapid.SampledFrom([]string{
		"hidden-1", "hidden-11", "HIDDEN-2", "Hidden-1\x00", "h-zebra-2",
	}), 0, 2)
	return &Request{
		Method: rapid.SampledFrom([]string{"GET", "PUT", "BREW", "G T"}).Draw(t, "method"),
		Path: rapid.SampledFrom([]string{
			"/", "/v1/x?token=hidden-query", "/v1/admin", "/v1%2fadmin", "/v2/../v1/admin", "/v1//admin", "/x;/admin", "/%zz", "",
		}).Draw(t, "path"),
		Host: rapid.SampledFrom([]string{"", "hidden-1", "hidden.host"}).Draw(t, "host"),
		Headers: map[string][]string{
			"authorization": values.Draw(t, "authorization"), "x_tenant": values.Draw(t, "tenant"),
			"cookie": {"hidden-cookie"},
		},
	}
}

var drawSource = rapid.SampledFrom([]string{
	idOf("default", "default", "web"), idOf("default", "default", "api"), idOf("default", "default", "nobody"),
	idOf("default", "n", "web"), idOf("p", "default", "jobs"), idOf("p", "elsewhere", "web"),
	"spiffe://TD.consul/ns/default/dc/dc2/svc/web", "spiffe://foreign.consul/ns/default/dc/dc1/svc/web", "web", "",
})

// TestExplainAgreesWithTheDecision draws policies and questions and holds what
// is explained to what is decided.
func TestExplainAgreesWithTheDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, request, source := drawPolicy(t), drawRequest(t), drawSource.Draw(t, "source")
		table := Compile(policy)
		x := table.Explain(source, request)
		if want := table.DecideURI(source, request); x.Decision != want {
			t.Fatalf("got %+v, want %+v", x.Decision, want)
		}
		checkConsidered(t, policy, &x)
		checkPermissions(t, policy, &x)
		checkHidden(t, policy, request, &x)
	})
}

// checkConsidered wants the rules in front of the deciding one in their order,
// each with its cause, then the deciding one.
func checkConsidered(t *rapid.T, p *Policy, x *Explanation) {
	passed := int(x.Decision.Rule) - 1
	if passed < 0 {
		passed = len(p.Rules)
		if x.Decision.Reason == ReasonForeignTrustDomain || x.Decision.Reason == ReasonInvalidSource {
			passed = 0
		}
	}
	listed := min(passed, maxConsidered)
	if x.Left != passed-listed {
		t.Fatalf("%d rules are left out of %d, want %d", x.Left, passed, passed-listed)
	}
	for i, c := range x.Considered {
		want := i
		if i == listed {
			want = passed
		}
		decides := x.Decision.Rule > 0 && want == passed
		if c.Rule != &p.Rules[want] || c.Matched != decides || c.Destination != p.DestinationOf(c.Rule) {
			t.Fatalf("considered %d: got rule %s, matched %t, want %s, %t", i, c.Rule.ID, c.Matched, p.Rules[want].ID, decides)
		}
		if !c.Matched && (c.Why == "" || c.Permissions != nil) {
			t.Fatalf("considered %d is passed over and says %q with %d permissions", i, c.Why, len(c.Permissions))
		}
	}
	if x.Decision.Rule > 0 {
		listed++
	}
	if len(x.Considered) != listed {
		t.Fatalf("got %d rules, want %d", len(x.Considered), listed)
	}
}

// checkPermissions wants each permission up to the deciding one, which alone
// is matched, or the cause why none is.
func checkPermissions(t *rapid.T, p *Policy, x *Explanation) {
	if x.Decision.Rule == 0 {
		return
	}
	last := x.Considered[len(x.Considered)-1]
	for i, c := range last.Permissions {
		decides := int32(i+1) == x.Decision.Permission
		if c.Permission != &last.Rule.Permissions[i] || c.Matched != decides || (c.Why == "") != decides {
			t.Fatalf("permission %d: got matched %t, why %q with %+v", i, c.Matched, c.Why, x.Decision)
		}
	}
	switch {
	case x.Decision.Permission > 0 && len(last.Permissions) != int(x.Decision.Permission):
		t.Fatalf("got %d permissions, want %d", len(last.Permissions), x.Decision.Permission)
	case x.Decision.Reason == ReasonDefaultAction && len(last.Permissions) != len(last.Rule.Permissions):
		t.Fatalf("got %d permissions, want all %d", len(last.Permissions), len(last.Rule.Permissions))
	}
	causes := []Reason{ReasonAmbiguousRequest, ReasonUnsupported, ReasonRequestRequired}
	if slices.Contains(causes, x.Decision.Reason) != (last.Why != "") {
		t.Fatalf("%s of rule %s is explained by %q", x.Decision.Reason, last.Rule.ID, last.Why)
	}
}

// checkHidden wants no header's value and no query in what is said, unless the
// policy itself says it.
func checkHidden(t *rapid.T, p *Policy, r *Request, x *Explanation) {
	if r == nil {
		return
	}
	said := x.Consul + "\n" + x.Aggressive
	for _, c := range x.Considered {
		said += "\n" + c.Why
		for _, p := range c.Permissions {
			said += "\n" + p.Why
		}
	}
	hidden := []string{r.Host, "hidden-query"}
	for _, values := range r.Headers {
		hidden = append(hidden, values...)
	}
	for _, value := range hidden {
		for _, spelling := range []string{value, strings.ToLower(value), strings.Trim(fmt.Sprintf("%q", value), `"`)} {
			if value != "" && strings.Contains(said, spelling) && !strings.Contains(patternsOf(p), spelling) {
				t.Fatalf("the value %q is shown in %s", value, said)
			}
		}
	}
}

func patternsOf(p *Policy) string {
	var list []string
	for _, r := range p.Rules {
		for _, p := range r.Permissions {
			for _, h := range p.Headers {
				list = append(list, h.Value)
			}
		}
	}
	return strings.Join(list, "\n")
}

func TestExplainWithoutATable(t *testing.T) {
	var none *Table
	if x := none.Explain(idOf("default", "default", "web"), nil); x.Decision != (Decision{}) || x.Considered != nil {
		t.Errorf("got %+v", x)
	}
}

// TestExplainWords shows each kind of cause once.
func TestExplainWords(t *testing.T) {
	permissions := func(list ...Permission) []Permission { return list }
	header := func(h HeaderMatch) []Permission {
		return permissions(Permission{Action: "allow", Headers: []HeaderMatch{h}})
	}
	request := func(path string) *Request {
		return &Request{Method: "GET", Path: path, Headers: map[string][]string{"x-a": {"v"}, "x_b": {"v"}, "bad": {"\x01"}}}
	}
	for _, tt := range []struct {
		name        string
		rule        Service
		permissions []Permission
		request     *Request
		want        string
	}{
		{"partition", Service{"p", "default", "*"}, nil, nil, `the source is in partition "default", not "p"`},
		{"namespace", Service{"default", "n", "*"}, nil, nil, `the source is in namespace "default", not "n"`},
		{"case", NewService("Web"), nil, nil, `the source is "web", not "Web": letter case counts`},
		{"name", NewService("api"), nil, nil, `the source is "web", not "api"`},
		{"no_request", NewService("web"), permissions(Permission{Action: "allow"}), nil, "it has permissions, and no request was given"},
		{"exact", NewService("web"), permissions(Permission{Action: "allow", Path: &PathMatch{"exact", "/x"}}), request("/y"), `path "/y" is not "/x"`},
		{"prefix", NewService("web"), permissions(Permission{Action: "allow", Path: &PathMatch{"prefix", "/x"}}), request("/y"), `path "/y" does not start with "/x"`},
		{"method", NewService("web"), permissions(Permission{Action: "allow", Methods: []string{"PUT", "POST"}}), request("/"), "method GET is not among PUT, POST"},
		{"absent", NewService("web"), header(HeaderMatch{Name: "x-c", Match: "exact", Value: "a"}), request("/"), "header x-c is absent"},
		{"present", NewService("web"), header(HeaderMatch{Name: "x-a", Match: "present", Invert: true}), request("/"), "header x-a is present"},
		{"value", NewService("web"), header(HeaderMatch{Name: "x-a", Match: "suffix", Value: "A", IgnoreCase: true}), request("/"), `header x-a does not end with "A" in any case`},
		{"inverted", NewService("web"), header(HeaderMatch{Name: "x-a", Match: "regex", Value: "v|w", Invert: true}), request("/"), `header x-a matches "v|w"`},
		{"dropped", NewService("web"), header(HeaderMatch{Name: "x_b", Match: "present"}), request("/"), "header x_b has an underscore, and the mesh drops such headers"},
		{"unreadable", NewService("web"), header(HeaderMatch{Name: "bad", Match: "present"}), request("/"),
			"header bad has a value that cannot be judged; a header that has to be looked at cannot be judged"},
		{"no_path", NewService("web"), permissions(Permission{Action: "allow"}), request("x"), "the path is one that two servers could understand differently"},
		{"two_readings", NewService("web"), permissions(
			Permission{Action: "deny", Path: &PathMatch{"prefix", "/v1/admin"}}, Permission{Action: "allow", Path: &PathMatch{"prefix", "/v1"}},
		), request("/v1%2fadmin"), `it matches only where the path is read as "/v1/admin"; it matches only where the path is read as "/v1%2fadmin"; ` +
			`the path can be read as "/v1%2fadmin" or as "/v1/admin", and the two are not judged alike`},
		{"decides", NewService("web"), permissions(Permission{Action: "allow"}), request("/"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := DefaultNormalization()
			n.Underscores = UnderscoresDrop
			rule := Rule{ID: "r1", Precedence: 9, Source: tt.rule, Permissions: tt.permissions}
			if tt.permissions == nil {
				rule.Action = "allow"
			}
			x := Compile(&Policy{Schema: 1, TrustDomain: tested, DefaultAction: "deny", Normalization: n, Rules: []Rule{rule}}).
				Explain(idOf("default", "default", "web"), tt.request)
			var got []string
			for _, p := range x.Considered[0].Permissions {
				got = append(got, p.Why)
			}
			if why := x.Considered[0].Why; why != "" {
				got = append(got, why)
			}
			if text := strings.Join(got, "; "); text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}
