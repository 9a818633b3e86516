package intentions

import (
	"encoding/json"
	"strings"
	"testing"
)

// These cases notice changes of the engine that no other test notices; see
// `make mutate`.

// permissionsTable compiles one rule for web with these permissions.
func permissionsTable(fallback string, n Normalization, list ...Permission) *Table {
	return Compile(&Policy{
		Schema: PolicySchema, TrustDomain: "td.consul", Destination: NewService("db"), DefaultAction: fallback, Normalization: n,
		Rules: []Rule{{ID: "r1", Precedence: 9, Source: NewService("web"), Permissions: list}},
	})
}

const mutationSource = "spiffe://td.consul/ns/default/dc/dc1/svc/web"

// A header beyond reading counts as well where only the second reading of the
// path leads to it.
func TestBadHeaderOfSecondReading(t *testing.T) {
	table := permissionsTable("allow", DefaultNormalization(),
		Permission{Action: "allow", Path: &PathMatch{MatchExact, "/v1//x"}},
		Permission{Action: "deny", Path: &PathMatch{MatchExact, "/v1/x"}, Headers: []HeaderMatch{{Name: "x-a", Match: MatchExact, Value: "b"}}})
	r := &Request{Method: "GET", Path: "/v1//x", Headers: map[string][]string{"X-A": {"b\x00"}}}
	if got, want := table.DecideURI(mutationSource, r), (Decision{Reason: ReasonAmbiguousRequest, Rule: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLetterCaseIsFoldedToTheEnds(t *testing.T) {
	for _, c := range []struct{ value, header string }{{"aa", "AA"}, {"zz", "ZZ"}, {"az", "AZ"}, {"AZ", "az"}, {"aZ", "Az"}} {
		table := permissionsTable("deny", DefaultNormalization(),
			Permission{Action: "allow", Headers: []HeaderMatch{{Name: "x-a", Match: MatchExact, Value: c.value, IgnoreCase: true}}})
		r := &Request{Method: "GET", Path: "/", Headers: map[string][]string{"x-a": {c.header}}}
		if !table.DecideURI(mutationSource, r).Allowed() {
			t.Errorf("%s does not match %s without regard to case", c.header, c.value)
		}
	}
}

// The way that does not look at every byte must not accept more than the other.
func TestTrustDomainThatNoIDCanHave(t *testing.T) {
	for _, domain := range []string{strings.Repeat("d", maxNameBytes+1), "td consul", "td/consul"} {
		table := Compile(&Policy{
			Schema: PolicySchema, TrustDomain: domain, Destination: NewService("db"), DefaultAction: "allow",
			Rules: []Rule{{ID: "r1", Precedence: 9, Source: NewService("web"), Action: "allow"}},
		})
		if got := table.DecideURI(idScheme+domain+"/ns/default/dc/dc1/svc/web", nil); got.Reason != ReasonInvalidSource {
			t.Errorf("trust domain %q: got %+v, want %s", domain, got, ReasonInvalidSource)
		}
		if got := table.DecideURI("dc1/svc/web", nil); got.Reason != ReasonInvalidSource {
			t.Errorf("trust domain %q: got %+v for an ID without one", domain, got)
		}
	}
}

func TestReadingsOfEscapes(t *testing.T) {
	unescape := DefaultNormalization()
	unescape.EscapedSlashes = SlashesUnescape
	for _, c := range []struct {
		name, path         string
		n                  Normalization
		consul, aggressive string
	}{
		{"other-escapes-stay", "/a%2Fb%3Fc%5cd", unescape, "/a/b%3Fc/d", "/a/b?c/d"},
		{"both-cases-of-hex", "/a%2a%2A%5a%5A%5f%5F", DefaultNormalization(), "/a%2a%2AZZ__", "/a**ZZ__"},
		{"percent-before-letters", "/a%25zz", DefaultNormalization(), "/a%25zz", "/a%zz"},
		{"percent-before-digit-and-letter", "/a%251z", DefaultNormalization(), "/a%251z", "/a%1z"},
		{"percent-before-letter-and-digit", "/a%25z1", DefaultNormalization(), "/a%25z1", "/a%z1"},
		{"percent-at-the-end", "/a%25", DefaultNormalization(), "/a%25", "/a%"},
		{"doubled-at-the-end", "/a%2541", DefaultNormalization(), "", ""},
		{"doubled", "/a%2541/b", DefaultNormalization(), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := readPath(c.path, &c.n)
			if want := (paths{c.consul, c.aggressive}); ok != (c.consul != "") || ok && got != want {
				t.Errorf("got %+v, %v, want %+v", got, ok, want)
			}
		})
	}
}

func TestSpellingsOfHeaders(t *testing.T) {
	for _, c := range []struct {
		name, header, value string
		headers             map[string][]string
	}{
		{"both", "x-a", "1,2", map[string][]string{"x-a": {"1"}, "X-A": {"2"}}},
		{"both-with-many", "x-a", "1,2,3,4", map[string][]string{"x-a": {"1", "2"}, "X-A": {"3", "4"}}},
		{"without-letters", "1", "v", map[string][]string{"1": {"v"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := permissionsTable("deny", DefaultNormalization(),
				Permission{Action: "allow", Headers: []HeaderMatch{{Name: c.header, Match: MatchExact, Value: c.value}}})
			if got := table.DecideURI(mutationSource, &Request{Method: "GET", Path: "/", Headers: c.headers}); !got.Allowed() {
				t.Errorf("got %+v, want allow", got)
			}
		})
	}
}

func TestCanonicalNames(t *testing.T) {
	for lower, want := range map[string]string{
		"accept": "Accept", "zone": "Zone", "x-a": "X-A", "x-z": "X-Z", "1a-2b": "1a-2b", "_a": "_a", "x-~a": "X-~a", "x--a": "X--A",
	} {
		if got := canonicalName(lower); got != want {
			t.Errorf("%s: got %s, want %s", lower, got, want)
		}
	}
}

func TestMethodsDoNotShareBits(t *testing.T) {
	var all uint16
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"} {
		bit := methodBit(method)
		if bit == 0 || all&bit != 0 {
			t.Errorf("%s has bit %b, and those before have %b", method, bit, all)
		}
		all |= bit
	}
}

func TestIDStringNamesOtherPartitionsAlone(t *testing.T) {
	for partition, want := range map[string]string{
		"": "spiffe://td/ns/default/dc/dc1/svc/web", DefaultPart: "spiffe://td/ns/default/dc/dc1/svc/web",
		"sales": "spiffe://td/ap/sales/ns/default/dc/dc1/svc/web",
	} {
		id := ID{TrustDomain: "td", Service: Service{Partition: partition, Namespace: DefaultPart, Name: "web"}, Datacenter: "dc1"}
		if got := id.String(); got != want {
			t.Errorf("partition %q: got %s, want %s", partition, got, want)
		}
	}
}

func TestNarrowsKinds(t *testing.T) {
	allow, deny := Intention{SourceName: "web", Action: "allow"}, Intention{SourceName: "web", Action: "deny"}
	peer, both, later := allow, deny, allow
	peer.SourcePeer = "east"
	both.Permissions = []json.RawMessage{json.RawMessage(`{"Action":"allow","HTTP":{"PathPrefix":"/"}}`)}
	later.ModifyIndex = 7
	one := func(x Intention) []Intention { return []Intention{x} }
	for _, c := range []struct {
		name          string
		before, after []Intention
		want          bool
	}{
		{"nothing", nil, nil, true},
		{"deny-comes", nil, one(deny), true},
		{"deny-goes", one(deny), nil, false},
		{"allow-comes", nil, one(allow), false},
		{"allow-goes", one(allow), nil, true},
		{"allow-becomes-deny", one(allow), one(deny), true},
		{"deny-becomes-allow", one(deny), one(allow), false},
		{"deny-with-permissions-comes", nil, one(both), false},
		{"peer-goes", one(peer), nil, false},
		{"index-alone", one(allow), one(later), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Narrows(c.before, c.after); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
