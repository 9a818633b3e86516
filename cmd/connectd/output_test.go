package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connectd/connectd/clients/go/connectd"
)

const statusDocument = `{"state":"degraded","version":"1.2.3","index":7,"uptime_seconds":93784.5,"datacenter":"dc1",
"upstream":{"name":"http://127.0.0.1:8500","node":"n1","confirmed":false},"store":"behind",
"bundle":{"trust_domain":"t.consul","roots":2,"active_root":"aa","active_root_not_after":"2030-01-02T03:04:05Z",
  "age_seconds":200,"freshness":"stale"},
"default_action":{"action":"deny","origin":"acl"},
"services":[
 {"service":{"partition":"default","namespace":"default","name":"web","datacenter":"dc1"},"ready":true,"index":7,
  "age_seconds":200,"freshness":"stale","rules":3,
  "leaf":{"spiffe_id":"spiffe://t.consul/ns/default/dc/dc1/svc/web","serial_number":"0a","not_after":"2026-01-02T03:04:05Z"}},
 {"service":{"partition":"default","namespace":"default","name":"db"},"ready":false,"index":0,
  "age_seconds":3153600000,"freshness":"stale","rules":0,"cause":"the agent refuses\nthe token"}],
"problems":[{"watch":"leaf","service":"db","kind":"refused","message":"the agent refuses\u001b[2J the token",
  "since":"2026-01-01T00:00:00Z"}]}`

const statusText = `state     degraded
daemon    connectd 1.2.3, up 1d02h
upstream  http://127.0.0.1:8500, node n1, datacenter dc1: has confirmed nothing lately
store     behind: the latest changes are not on disk yet
bundle    2 roots of t.consul; the active one ends 2030-01-02 03:04:05 UTC; stale, confirmed 3m20s ago
default   deny (Consul's ACL default policy)

SERVICE  READY  FRESHNESS  LEAF ENDS                RULES  CAUSE
web      yes    stale      2026-01-02 03:04:05 UTC  3      -
db       no     stale      -                        0      the agent refuses the token

PROBLEM  SERVICE  SINCE                    MESSAGE
leaf     db       2026-01-01 00:00:00 UTC  refused: the agent refuses [2J the token
`

const policyDocument = `{"age_seconds":0.4,"freshness":"fresh","deny_after_seconds":1,"store":"ok","index":3,"schema":1,
"trust_domain":"t.consul","destination":{"partition":"default","namespace":"default","name":"db"},
"default_action":"deny","default_origin":"config","request_headers":["x-tenant"],
"normalization":{"path":true,"merge_slashes":false,"escaped_slashes":"keep","underscores":"allow"},
"rules":[
 {"id":"r1","precedence":9,"source":{"partition":"default","namespace":"default","name":"web"},"action":"allow"},
 {"id":"r2","precedence":9,"source":{"partition":"p","namespace":"n","name":"odd"},"action":"deny","reason":"unsupported"},
 {"id":"r3","precedence":8,"source":{"partition":"default","namespace":"default","name":"*"},"later":1,"permissions":[
  {"action":"deny","path":{"match":"exact","value":"/admin"}},
  {"action":"allow","methods":["GET","HEAD"],"path":{"match":"prefix","value":"/v1/"},
   "headers":[{"name":"x-tenant","match":"exact","value":"a","ignore_case":true},{"name":"x-debug","match":"present","invert":true}]},
  {"action":"deny"}]},
 {"id":"r4","precedence":2,"source":{"partition":"default","namespace":"*","name":"*"},"action":"deny"},
 "what"]}`

const policyText = `Who may reach db (fresh, confirmed 0s ago); the first rule that matches decides:

RULE     PRECEDENCE  SOURCE                             ACTION
r1       9           web                                allow
r2       9           odd of namespace n of partition p  deny (unsupported: this intention demands something that connectd cannot judge)
r3       8           any service                        judges each request; the first that matches decides:
                                                          1. deny path is "/admin"
                                                          2. allow method GET or HEAD, and path starts with "/v1/", and header x-tenant is "a" in any case, and not (header x-debug is present)
                                                          3. deny every request
                                                          otherwise deny (the default action)
r4       2           any service of any namespace       deny
?        ?           ?                                  a rule that this program cannot read; use one of the daemon's release
default  -           everyone else                      deny (set in the daemon's configuration)
`

const decisionDocument = `{"decision":"deny","allowed":false,"reason":"permission","index":9,"age_seconds":1,"freshness":"fresh",
"via":"live","matched":{"rule":"r2","permission":0,"precedence":8,"source":"default/*","destination":"default/db"}}`

const decisionText = `deny: web may not reach db

reason  permission: a permission of the matching intention matches the request
rule    r2 (default/* -> default/db), precedence 8, permission 1
via     live
policy  fresh, confirmed 1s ago
`

const bundleDocument = `{"age_seconds":1,"freshness":"fresh","deny_after_seconds":1,"store":"ok","index":1,"trust_domain":"t.consul",
"roots":[{"id":"aa","certificate_pem":"A","active":true,"not_after":"2020-01-01T00:00:00Z"},
{"id":"bb","certificate_pem":"B\n","active":false,"not_after":"2020-01-01T00:00:00Z"}]}`

func documents() map[string]string {
	return map[string]string{
		"/v1/status":              statusDocument,
		"/v1/services":            `{"index":1,"services":[]}`,
		"/v1/services/db/policy":  policyDocument,
		"/v1/authorize":           decisionDocument,
		"/v1/bundle":              bundleDocument,
		"/v1/services/web/policy": `{"rules":[]}`,
	}
}

func TestOutputForPeople(t *testing.T) {
	socket, _ := startAnswering(t, documents())
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"status", 1, statusText},
		{"services", 0, "No services yet: register one as native with Consul, or ask for its leaf (connectd leaf NAME).\n"},
		{"policy db", 0, policyText},
		{"authorize --source web --destination db", 1, decisionText},
		{"bundle --pem", 0, "A\nB\n"},
	} {
		t.Run(strings.ReplaceAll(tt.args, " ", "_"), func(t *testing.T) {
			got := runCommand(t, append(strings.Fields(tt.args), "--socket", socket)...)
			if got.code != tt.code || got.err != "" {
				t.Errorf("got %d and %q, want %d", got.code, got.err, tt.code)
			}
			if diff := cmp.Diff(tt.want, got.out); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestRulesKeepUnknownMembers protects whoever reads the rules of a newer
// daemon through this program.
func TestRulesKeepUnknownMembers(t *testing.T) {
	socket, _ := startAnswering(t, documents())
	got := runCommand(t, "policy", "db", "--json", "--socket", socket)
	if got.code != 0 || !strings.Contains(got.out, `"later": 1`) || !strings.Contains(got.out, `"what"`) {
		t.Errorf("got %+v", got)
	}
}

func TestStatusCodes(t *testing.T) {
	for state, want := range map[string]int{"ok": 0, "degraded": 1, "failing": 2, "strange": 2} {
		t.Run(state, func(t *testing.T) {
			socket, _ := startAnswering(t, map[string]string{"/v1/status": `{"state":"` + state + `","services":[],"problems":[]}`})
			for _, args := range [][]string{{"status"}, {"status", "--json"}} {
				if got := runCommand(t, append(args, "--socket", socket)...); got.code != want || got.out == "" || got.err != "" {
					t.Errorf("got %+v, want %d", got, want)
				}
			}
		})
	}
}

func TestAuthorizeSendsTheRequestAndAsksLive(t *testing.T) {
	socket, asked := startAnswering(t, map[string]string{"/v1/bundle": bundleDocument, "/v1/authorize": decisionDocument})
	for _, tt := range []struct{ args, want string }{
		{"", ``},
		{"--path /x", `"request":{"method":"GET","path":"/x"}`},
		{"--method POST", `"request":{"method":"POST","path":"/"}`},
		{"--header X-Tenant:a --header x-tenant:b:c", `"request":{"method":"GET","path":"/","headers":{"x-tenant":["a","b:c"]}}`},
	} {
		args := append([]string{"authorize", "--source", "web", "--destination", "db", "--socket", socket}, strings.Fields(tt.args)...)
		if got := runCommand(t, args...); got.code != 1 {
			t.Errorf("got %+v", got)
		}
		requests := strings.Join(asked(), "\n")
		// The status was refused, so the datacenter is the usual one.
		for _, want := range []string{"/v1/authorize?explain=&live=", "spiffe://t.consul/ns/default/dc/dc1/svc/web", tt.want} {
			if !strings.Contains(requests, want) {
				t.Errorf("%s: got %s, want %s", tt.args, requests, want)
			}
		}
	}
}

func TestLeafSaysHowLongItLives(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := &connectd.LeafAnswer{Leaf: connectd.Leaf{
		SPIFFEID: "spiffe://t/x", SerialNumber: "0a:1b", NotBefore: from, NotAfter: from.Add(72 * time.Hour),
	}}
	var out strings.Builder
	if err := printLeaf(&out, leaf, leafFlags{}, from.Add(18*time.Hour)); err != nil {
		t.Fatal(err)
	}
	want := `SPIFFE ID    spiffe://t/x
serial       0a:1b
valid from   2026-01-01 00:00:00 UTC
valid to     2026-01-04 00:00:00 UTC (2d06h left, 75 % of its life)
private key  not shown; --key prints it
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLife(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		from, to time.Duration
		want     string
	}{
		{-time.Hour, time.Hour, "1h00m left, 50 % of its life"},
		{-time.Hour, -90 * time.Second, "ended 1m30s ago"},
		{time.Hour, 2 * time.Hour, "2h00m left, 100 % of its life"},
		{time.Hour, time.Hour, "1h00m left"},
		{0, 49 * time.Hour, "2d01h left, 100 % of its life"},
	} {
		if got := life(now.Add(tt.from), now.Add(tt.to), now); got != tt.want {
			t.Errorf("%s to %s: got %q, want %q", tt.from, tt.to, got, tt.want)
		}
	}
}
