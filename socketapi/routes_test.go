package socketapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

var grants = []socketapi.Grant{
	socketapi.GrantLeaf, socketapi.GrantAuthorize, socketapi.GrantDiscover, socketapi.GrantStatus,
	socketapi.GrantAny, socketapi.GrantNone,
}

// open are the routes that take no grant, because they reveal nothing.
var open = []string{"/healthz", "/readyz"}

func TestRoutesHaveGrants(t *testing.T) {
	for name, server := range map[string]*socketapi.Server{
		"main": socketapi.New(socketapi.Config{}), "admin": socketapi.NewAdmin(socketapi.Config{}),
	} {
		seen := map[string]bool{}
		for _, r := range server.Routes() {
			if !slices.Contains(grants, r.Grant) {
				t.Errorf("%s: %s has grant %q", name, r.Pattern, r.Grant)
			}
			if (r.Grant == socketapi.GrantNone) != slices.Contains(open, r.Pattern) {
				t.Errorf("%s: %s has grant %q", name, r.Pattern, r.Grant)
			}
			if strings.HasSuffix(r.Pattern, "/leaf") || strings.HasSuffix(r.Pattern, "/snapshot") || strings.Contains(r.Pattern, "/leaf/") {
				if r.Grant != socketapi.GrantLeaf {
					t.Errorf("%s: %s shows a key with grant %q", name, r.Pattern, r.Grant)
				}
			}
			if seen[r.Pattern] {
				t.Errorf("%s: %s is registered twice", name, r.Pattern)
			}
			seen[r.Pattern] = true
		}
	}
}

// TestRoutesAskForTheirGrant gives the caller everything but the grant of the
// route, and then nothing but that grant.
func TestRoutesAskForTheirGrant(t *testing.T) {
	c := loadContract(t)
	for _, g := range grants[:5] {
		t.Run(string(g), func(t *testing.T) {
			without := c.start(t, setup{admission: admit(func(x socketapi.Grant, _ intentions.Service) bool { return x != g })})
			with := c.start(t, setup{admission: admit(func(x socketapi.Grant, _ intentions.Service) bool { return x == g })})
			for _, r := range without.server.Routes() {
				if r.Grant != g {
					continue
				}
				path, body := request(r)
				if x := c.send(t, without.client, r.Method, path, body); x.response.StatusCode != http.StatusForbidden {
					t.Errorf("%s without the grant %s: got %d", path, g, x.response.StatusCode)
				}
				if x := c.send(t, with.client, r.Method, path, body); x.response.StatusCode == http.StatusForbidden {
					t.Errorf("%s with the grant %s: got %s", path, g, x.body)
				}
			}
		})
	}
}

// request fills a route's pattern with a service that exists.
func request(r socketapi.Route) (path, body string) {
	path = strings.NewReplacer("{service}", "web", "{query}", "nearest").Replace(r.Pattern)
	switch path {
	case "/v1/connect/intentions/match":
		path += "?by=destination&name=db"
	case "/v1/agent/connect/authorize":
		body = `{"Target":"db","ClientCertURI":"` + trusted + `web"}`
	case "/v1/authorize":
		body = question(trusted+"web", "db", "")
	}
	return path, body
}
