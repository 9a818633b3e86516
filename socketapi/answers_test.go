package socketapi_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/intentions"
)

// samples hold every shape that a rule can take.
var samples = map[string]string{
	"db": `Kind = "service-intentions" Name = "db" Sources = [
	  { Name = "web", Action = "allow" }, { Name = "*", Action = "deny" } ]`,
	"shop": `Kind = "service-intentions" Name = "shop" Sources = [
	  { Name = "web", Permissions = [
	    { Action = "deny", HTTP = { PathRegex = "/v[0-9]+/admin" } },
	    { Action = "allow", HTTP = { PathPrefix = "/v1/", Methods = ["GET", "PUT"], Header = [
	      { Name = "X-Tenant", Exact = "a", IgnoreCase = true }, { Name = "x-debug", Present = true, Invert = true } ] } },
	    { Action = "allow", HTTP = { PathExact = "/" } } ] },
	  { Name = "api", Permissions = [ { Action = "allow", HTTP = { Header = [
	      { Name = "a", Prefix = "p" }, { Name = "b", Suffix = "s" }, { Name = "c", Contains = "c" }, { Name = "d", Regex = "r+" } ] } } ] },
	  { Name = "jobs", Permissions = [ { Action = "allow", JWT = { Providers = [ { Name = "okta" } ] }, HTTP = { PathPrefix = "/" } } ] } ]`,
}

var localServices = []devca.Service{{Name: "web", Port: 8080}, {Name: "db", Port: 5432, Address: "10.0.0.1"}}

// trusted is the beginning of SPIFFE IDs in the trust domain of the tests.
const trusted = "spiffe://" + devca.TrustDomain + "/ns/default/dc/dc1/svc/"

// get asks for a path, expects a status, and returns the answer.
func (k *stack) get(path string, want int) answer {
	k.t.Helper()
	return k.ask(http.MethodGet, path, "", want)
}

func (k *stack) ask(method, path, body string, want int) answer {
	k.t.Helper()
	x := k.contract.send(k.t, k.client, method, path, body)
	if x.response.StatusCode == http.StatusOK {
		k.contract.checkRequest(k.t, x)
	}
	return k.read(x, want)
}

// askFreely asks what the document does not allow to ask.
func (k *stack) askFreely(method, path, body string, want int) answer {
	k.t.Helper()
	return k.read(k.contract.send(k.t, k.client, method, path, body), want)
}

// read checks an answer and returns it.
func (k *stack) read(x exchange, want int) answer {
	k.t.Helper()
	k.contract.check(k.t, x)
	method, path := x.request.Method, x.request.URL
	if x.response.StatusCode != want {
		k.t.Errorf("%s %s: got %d, want %d: %s", method, path, x.response.StatusCode, want, x.body)
	}
	var a answer
	if err := json.Unmarshal(x.body, &a); err != nil && method != http.MethodHead {
		k.t.Errorf("%s %s: %v in %s", method, path, err, x.body)
	}
	a.header = x.response.Header
	return a
}

// fails asks and expects an error with a status and a code.
func (k *stack) fails(method, path, body string, status int, code string) {
	k.t.Helper()
	if a := k.ask(method, path, body, status); a.Error.Code != code {
		k.t.Errorf("%s %s: got code %q, want %q", method, path, a.Error.Code, code)
	}
}

// authorize asks one question and returns decision and reason.
func (k *stack) authorize(query, source, destination, more string) string {
	k.t.Helper()
	a := k.ask(http.MethodPost, "/v1/authorize"+query, question(source, destination, more), http.StatusOK)
	if a.Allowed != (a.Decision == "allow") {
		k.t.Errorf("allowed is %v with decision %s", a.Allowed, a.Decision)
	}
	return strings.TrimSpace(a.Decision + " " + a.Reason + " " + a.Via)
}

func question(source, destination, more string) string {
	q, _ := json.Marshal(map[string]string{"source": source, "destination": destination})
	return strings.TrimSuffix(string(q), "}") + more + "}"
}

// answer is what tests look at; the document knows the rest.
type answer struct {
	header http.Header

	Index     uint64
	Freshness string
	Leaf      *struct {
		SerialNumber string `json:"serial_number"`
	}
	LeafError    string `json:"leaf_error"`
	SerialNumber string `json:"serial_number"`
	Policy       struct{ Rules []json.RawMessage }
	Rules        []json.RawMessage
	Services     []struct {
		Service struct{ Name string }
		Cause   string
	}
	Instances []struct {
		SPIFFEID string `json:"spiffe_id"`
	}
	State     string
	Problems  []json.RawMessage
	Decision  string
	Allowed   bool
	Reason    string
	Via       string
	Decisions []answer
	Explained *explanation `json:"explanation"`
	Error     struct{ Code, Message string }
}

func (c *contract) testServices(t *testing.T) {
	k := c.start(t, setup{})
	first := k.get("/v1/services/web/snapshot", http.StatusOK)
	if first.Leaf == nil || first.header.Get("X-Consul-Index") != strconv.FormatUint(first.Index, 10) {
		t.Errorf("got leaf %v and index header %s for index %d", first.Leaf, first.header.Get("X-Consul-Index"), first.Index)
	}
	again := k.get("/v1/services/web/snapshot?have_leaf="+first.Leaf.SerialNumber, http.StatusOK)
	if again.Leaf != nil || again.LeafError != "" {
		t.Error("the leaf that the caller has was sent again")
	}
	if other := k.get("/v1/services/web/snapshot?have_leaf=00:01&ns=default&partition=default", http.StatusOK); other.Leaf == nil {
		t.Error("the leaf was not sent to a caller with another one")
	}
	if leaf := k.get("/v1/services/web/leaf", http.StatusOK); leaf.SerialNumber != first.Leaf.SerialNumber {
		t.Errorf("got leaf %s, want %s", leaf.SerialNumber, first.Leaf.SerialNumber)
	}
	k.get("/v1/services/web/ready", http.StatusOK)
	k.get("/v1/bundle", http.StatusOK)
	k.get("/healthz", http.StatusOK)
	k.get("/readyz", http.StatusOK)
	if list := k.get("/v1/services", http.StatusOK); len(list.Services) != 2 {
		t.Errorf("got %d services, want web and db", len(list.Services))
	}
	// A caller may send more than this version knows.
	k.askFreely(http.MethodGet, "/v1/services/web/snapshot?invented=1", "", http.StatusOK)
	k.get("/v1/services/elsewhere/snapshot?ns=team", http.StatusOK)
	if s := k.get("/v1/status", http.StatusOK); s.State != "ok" || len(s.Services) != 3 {
		t.Errorf("got state %q with %d services", s.State, len(s.Services))
	}
}

func (c *contract) testBlocking(t *testing.T) {
	source := newSource(t, devca.Config{Services: localServices, Intentions: samples})
	k := c.start(t, setup{source: source})
	for _, path := range []string{
		"/v1/services/db/snapshot", "/v1/services/db/policy", "/v1/services/db/leaf", "/v1/bundle", "/v1/discovery/db",
	} {
		now := k.get(path, http.StatusOK)
		same := k.get(path+"?wait=20ms&index="+strconv.FormatUint(now.Index, 10), http.StatusOK)
		if same.Index != now.Index {
			t.Errorf("%s: got index %d after the wait, want %d", path, same.Index, now.Index)
		}
		if ahead := k.get(path+"?wait=10m&index="+strconv.FormatUint(now.Index+1000, 10), http.StatusOK); ahead.Index != now.Index {
			t.Errorf("%s: got index %d for a caller ahead, want %d", path, ahead.Index, now.Index)
		}
	}
	before := k.get("/v1/services/db/snapshot", http.StatusOK)
	changed := make(chan answer, 1)
	go func() {
		changed <- k.get("/v1/services/db/snapshot?wait=1m&index="+strconv.FormatUint(before.Index, 10), http.StatusOK)
	}()
	if err := source.Replace(nil); err != nil {
		t.Fatal(err)
	}
	if after := <-changed; after.Index == before.Index || len(after.Policy.Rules) != 0 {
		t.Errorf("got index %d with %d rules after all were deleted at %d", after.Index, len(after.Policy.Rules), before.Index)
	}
}

func (c *contract) testPolicy(t *testing.T) {
	k := c.start(t, setup{})
	if p := k.get("/v1/services/shop/policy", http.StatusOK); len(p.Rules) != 3 {
		t.Errorf("got %d rules, want 3", len(p.Rules))
	}
	p := k.get("/v1/services/db/policy", http.StatusOK)
	if len(p.Rules) != 2 || !strings.Contains(string(p.Rules[1]), `"name":"*"`) {
		t.Errorf("got %s, want the wildcard last", p.Rules)
	}
	// Of shop only the policy is watched, so it is ready without a leaf.
	k.get("/v1/services/shop/ready", http.StatusOK)
}

func (c *contract) testDiscovery(t *testing.T) {
	source := newSource(t, devca.Config{Services: localServices})
	source.lookups = map[string]error{
		"hidden": &cache.Failure{Kind: cache.FailureFiltered, Message: "ACLs hid every instance"},
		"denied": refused(cache.WatchLeaf, intentions.Service{}).Failure,
	}
	up := upstream{status: http.StatusOK, body: `{"Service":"web","Nodes":[{"Node":{"Node":"n","Address":"10.0.0.9","Datacenter":"?dc"},
		"Service":{"ID":"web-proxy","Service":"web-sidecar","Kind":"connect-proxy","Port":20000,"Proxy":{"DestinationServiceName":"web"}}}]}`}
	k := c.start(t, setup{source: source, upstream: up})
	for _, x := range []struct{ path, want string }{
		{"/v1/discovery/db", trusted + "db"},
		{"/v1/discovery/web?dc=dc1&ns=default&partition=default", trusted + "web"},
		{"/v1/discovery/web?query=nearest&dc=dc2", "spiffe://" + devca.TrustDomain + "/ns/default/dc/dc2/svc/web"},
		{"/v1/discovery/nobody", ""},
	} {
		got := ""
		for _, i := range k.get(x.path, http.StatusOK).Instances {
			got += i.SPIFFEID
		}
		if got != x.want {
			t.Errorf("%s: got %q, want %q", x.path, got, x.want)
		}
	}
	k.fails(http.MethodGet, "/v1/discovery/hidden", "", http.StatusBadGateway, "discovery_filtered")
	k.fails(http.MethodGet, "/v1/discovery/denied", "", http.StatusBadGateway, "upstream_refused")
	k.fails(http.MethodGet, "/v1/discovery/web?dc=dc9", "", http.StatusServiceUnavailable, "not_ready")

	k = c.start(t, setup{upstream: upstream{status: http.StatusNotFound, body: "Query not found"}})
	k.fails(http.MethodGet, "/v1/discovery/web?query=none", "", http.StatusBadGateway, "upstream_refused")
	k = c.start(t, setup{})
	k.fails(http.MethodGet, "/v1/discovery/web?query=none", "", http.StatusServiceUnavailable, "not_ready")
}

func (c *contract) testAuthorize(t *testing.T) {
	rows := `[{"SourceName":"web","DestinationName":"far","Action":"allow","Precedence":9}]`
	k := c.start(t, setup{upstream: upstream{rows: rows}})
	for _, x := range []struct{ query, source, destination, more, want string }{
		{"", trusted + "web", "db", "", "allow intention"},
		{"?ns=default&partition=default", trusted + "api", "db", "", "deny intention"},
		{"", trusted + "db", "shop", "", "deny default_action"},
		{"", trusted + "web", "shop", "", "per_request request_required"},
		{"", trusted + "jobs", "shop", `,"request":{"method":"GET","path":"/"}`, "deny unsupported"},
		{"", trusted + "web", "shop", `,"request":{"method":"GET","path":"/?q=1"}`, "allow permission"},
		{"", trusted + "web", "shop", `,"request":{"method":"GET","path":"/v1/admin","headers":{"X-Tenant":["A"]}}`, "deny permission"},
		{"", trusted + "web", "shop", `,"request":{"method":"PUT","path":"/v1/x","headers":{"X-Tenant":["A"]}}`, "allow permission"},
		{"", trusted + "web", "shop", `,"request":{"method":"PUT","path":"/other"}`, "deny default_action"},
		{"", trusted + "web", "shop", `,"request":{"method":"GET","path":"/v1/%zz"}`, "deny ambiguous_request"},
		{"", "spiffe://other.consul/ns/default/dc/dc1/svc/web", "db", "", "deny foreign_trust_domain"},
		{"", "web", "db", "", "deny invalid_source"},
		{"?live", trusted + "web", "far", "", "allow intention live"},
		{"?live=1", trusted + "web", "db", "", "allow intention"},
		{"", trusted + "web", "far", "", "deny default_action"},
	} {
		t.Run(strings.ReplaceAll(x.want, " ", "_"), func(t *testing.T) {
			if got := k.authorize(x.query, x.source, x.destination, x.more); got != x.want {
				t.Errorf("%s to %s: got %q, want %q", x.source, x.destination, got, x.want)
			}
		})
	}
	k = c.start(t, setup{upstream: upstream{err: refused(cache.WatchIntentions, intentions.Service{}).Failure}})
	k.get("/v1/bundle", http.StatusOK)
	k.fails(http.MethodPost, "/v1/authorize?live", question(trusted+"web", "far", ""), http.StatusBadGateway, "upstream_refused")
	k = c.start(t, setup{upstream: upstream{err: errors.New("a defect")}})
	k.fails(http.MethodPost, "/v1/authorize?live", question(trusted+"web", "far", ""), http.StatusInternalServerError, "internal")
}

func (c *contract) testBatch(t *testing.T) {
	k := c.start(t, setup{})
	list := []string{
		question(trusted+"web", "db", ""), question("x", "a b", ""), question("x", "foreign", ""),
		question("", "db", ""), question(trusted+"web", "shop", `,"request":{"method":"GET","path":"/","headers":{"x-tenant":["a"]}}`),
	}
	// Questions that are not as documented are answered in their place.
	a := k.askFreely(http.MethodPost, "/v1/authorize", `{"requests":[`+strings.Join(list, ",")+`]}`, http.StatusOK)
	var got []string
	for _, d := range a.Decisions {
		got = append(got, d.Decision+d.Error.Code)
	}
	if strings.Join(got, " ") != "allow bad_request forbidden bad_request allow" {
		t.Errorf("got %q", got)
	}
	k.askFreely(http.MethodPost, "/v1/authorize", question(trusted+"web", "db", `,"invented":1`), http.StatusOK)
	if empty := k.ask(http.MethodPost, "/v1/authorize", `{"requests":[]}`, http.StatusOK); len(empty.Decisions) != 0 {
		t.Errorf("got %d decisions for no question", len(empty.Decisions))
	}
}

func (c *contract) testAdmin(t *testing.T) {
	k := c.start(t, setup{admin: true})
	k.get("/v1/bundle", http.StatusOK)
	k.get("/v1/services", http.StatusOK)
	k.get("/v1/services/db/policy", http.StatusOK)
	k.fails(http.MethodGet, "/v1/services/db/leaf", "", http.StatusForbidden, "forbidden")
	k.fails(http.MethodGet, "/v1/services/db/snapshot", "", http.StatusForbidden, "forbidden")
	if s := k.get("/v1/status", http.StatusOK); len(s.Services) != 2 {
		t.Errorf("got %d services on the admin socket, want 2", len(s.Services))
	}
}
