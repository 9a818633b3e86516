package intentions

import "testing"

// allocTable has one rule of each kind, in the order bad, l7, web. The default action allows, so that no
// case passes by what a zero decision says.
func allocTable(t *testing.T) *Table {
	t.Helper()
	list, err := ParseIntentions([]byte(`[
		{"SourceNS":"default","SourceName":"web","DestinationNS":"default","DestinationName":"db","Action":"allow","Precedence":9},
		{"SourceNS":"default","SourceName":"bad","DestinationNS":"default","DestinationName":"db","Action":"deny","Precedence":9},
		{"SourceNS":"default","SourceName":"l7","DestinationNS":"default","DestinationName":"db","Precedence":9,"Permissions":[
			{"Action":"deny","HTTP":{"PathPrefix":"/admin","Methods":["GET","POST"]}},
			{"Action":"deny","HTTP":{"PathExact":"/teams","Header":[{"Name":"X-Team","Exact":"red"}]}},
			{"Action":"deny","HTTP":{"PathExact":"/teams","Header":[{"Name":"x-team","Suffix":"GREEN","IgnoreCase":true},{"Name":"x-none","Present":true,"Invert":true}]}},
			{"Action":"allow","HTTP":{"PathExact":"/teams","Header":[{"Name":"x-team","Contains":"l"},{"Name":"host","Prefix":"db."}]}},
			{"Action":"allow","HTTP":{"PathRegex":"/v[0-9]+/rows/[a-z]+","Header":[{"Name":"x-team","Regex":"(red|blue)"}]}}
		]}]`))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := NewPolicy(NewService("db"), "td.consul", DefaultAction{Allow: true}, list)
	return Compile(p)
}

func TestDecisionsAllocateNothing(t *testing.T) {
	table := allocTable(t)
	id := func(name string) string { return "spiffe://td.consul/ns/default/dc/dc1/svc/" + name }
	request := func(method, path, team string) *Request {
		return &Request{Method: method, Path: path, Host: "db.service.consul", Headers: map[string][]string{"X-Team": {team}}}
	}
	for _, c := range []struct {
		name, source string
		request      *Request
		want         Decision
	}{
		{"allow", id("web"), nil, Decision{Allow, ReasonIntention, 3, 0}},
		{"deny", id("bad"), nil, Decision{Deny, ReasonIntention, 1, 0}},
		{"default", id("other"), nil, Decision{Allow, ReasonDefaultAction, 0, 0}},
		{"foreign", "spiffe://other.consul/ns/default/dc/dc1/svc/web", nil, Decision{Deny, ReasonForeignTrustDomain, 0, 0}},
		{"trust-domain-in-upper-case", "spiffe://TD.CONSUL/ns/default/dc/dc1/svc/bad", nil, Decision{Deny, ReasonIntention, 1, 0}},
		{"other-namespace", "spiffe://td.consul/ns/sales/dc/dc1/svc/web", nil, Decision{Allow, ReasonDefaultAction, 0, 0}},
		{"invalid", id("w%65b"), nil, Decision{Deny, ReasonInvalidSource, 0, 0}},
		{"per-request", id("l7"), nil, Decision{PerRequest, ReasonRequestRequired, 2, 0}},
		{"request-deny", id("l7"), request("POST", "/admin/users?x=1", "red"), Decision{Deny, ReasonPermission, 2, 1}},
		{"request-other-method", id("l7"), request("PUT", "/admin/users", "red"), Decision{Allow, ReasonDefaultAction, 2, 0}},
		{"request-no-match", id("l7"), request("GET", "/other", "red"), Decision{Allow, ReasonDefaultAction, 2, 0}},
		{"header-exact", id("l7"), request("GET", "/teams", "red"), Decision{Deny, ReasonPermission, 2, 2}},
		{"header-suffix", id("l7"), request("GET", "/teams", "the-green"), Decision{Deny, ReasonPermission, 2, 3}},
		{"header-contains", id("l7"), request("GET", "/teams", "blue"), Decision{Allow, ReasonPermission, 2, 4}},
		{"regex", id("l7"), request("GET", "/v12/rows/abc", "blue"), Decision{Allow, ReasonPermission, 2, 5}},
		{"regex-no-match", id("l7"), request("GET", "/v12/rows/ABC", "blue"), Decision{Allow, ReasonDefaultAction, 2, 0}},
		{"ambiguous", id("l7"), request("GET", "/v1/\x01", "blue"), Decision{Deny, ReasonAmbiguousRequest, 2, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Decision
			allocations := testing.AllocsPerRun(200, func() { got = table.DecideURI(c.source, c.request) })
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if allocations != 0 {
				t.Errorf("got %v allocations, want 0", allocations)
			}
		})
	}
}

func TestParsedDecisionAllocatesNothing(t *testing.T) {
	table := allocTable(t)
	uri := "spiffe://td.consul/ap/sales/ns/default/dc/dc1/svc/web"
	if got := testing.AllocsPerRun(200, func() {
		id, err := ParseID(uri)
		if err != nil || table.Decide(id).Reason != ReasonUnsupported {
			t.Error("a source of another partition was not denied as such")
		}
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}
