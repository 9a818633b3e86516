package socketapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connectd/connectd/cache/devca"
)

// explanation is what tests look at of an explanation.
type explanation struct {
	DefaultAction string   `json:"default_action"`
	DefaultOrigin string   `json:"default_origin"`
	PathReadings  []string `json:"path_readings"`
	Considered    []struct {
		Rule, Source, Why string
		Matched           bool
		Permissions       []struct {
			Action, Why string
			Matched     bool
		}
	}
	NotListed int `json:"not_listed"`
}

// String writes one line for each fact, so that wants can be read.
func (x *explanation) String() string {
	var lines []string
	add := func(mark string, matched bool, why string) {
		if matched {
			mark += " matches"
		}
		lines = append(lines, strings.TrimSuffix(mark+": "+why, ": "))
	}
	for _, r := range x.Considered {
		add(r.Rule+" "+r.Source, r.Matched, r.Why)
		for _, p := range r.Permissions {
			add("  "+p.Action, p.Matched, p.Why)
		}
	}
	if len(x.PathReadings) > 0 {
		lines = append(lines, "path "+strings.Join(x.PathReadings, " "))
	}
	if x.NotListed > 0 {
		lines = append(lines, fmt.Sprint("not listed ", x.NotListed))
	}
	return strings.Join(lines, "\n")
}

// explained holds every kind of cause.
var explained = map[string]string{
	"db": samples["db"],
	"shop": `Kind = "service-intentions" Name = "shop" Sources = [
	  { Name = "web", Permissions = [
	    { Action = "deny", HTTP = { PathRegex = "/v[0-9]+/admin" } },
	    { Action = "allow", HTTP = { PathPrefix = "/v1/", Methods = ["GET", "PUT"], Header = [
	      { Name = "x-debug", Present = true, Invert = true }, { Name = "X-Tenant", Exact = "A", IgnoreCase = true } ] } },
	    { Action = "allow", HTTP = { PathExact = "/" } } ] },
	  { Name = "jobs", Permissions = [ { Action = "allow", JWT = { Providers = [ { Name = "okta" } ] }, HTTP = { PathPrefix = "/" } } ] },
	  { Name = "*", Action = "deny" } ]`,
	"crowd": crowd(),
}

// crowd has more rules than an explanation lists.
func crowd() string {
	var sources []string
	for i := range 30 {
		sources = append(sources, fmt.Sprintf(`{ Name = "s%02d", Action = "allow" }`, i))
	}
	return `Kind = "service-intentions" Name = "crowd" Sources = [ ` + strings.Join(sources, ", ") + " ]"
}

func (c *contract) testExplain(t *testing.T) {
	k := c.start(t, setup{
		source:   newSource(t, devca.Config{Intentions: explained}),
		upstream: upstream{rows: `[{"SourceName":"api","DestinationName":"far","Action":"allow","Precedence":9}]`},
	})
	request := func(method, path, headers string) string {
		return fmt.Sprintf(`,"request":{"method":%q,"path":%q,"headers":{%s}}`, method, path, headers)
	}
	for _, x := range []struct{ name, query, source, destination, more, want string }{
		{"matched", "", trusted + "web", "db", "", "r1 default/web matches"},
		{"passed_over", "", trusted + "api", "db", "", "r1 default/web: the source is \"api\", not \"web\"\nr2 default/* matches"},
		{"letter_case", "", trusted + "Web", "db", "", "r1 default/web: the source is \"Web\", not \"web\": letter case counts\nr2 default/* matches"},
		{"default", "&live", trusted + "web", "far", "", "r1 default/api: the source is \"web\", not \"api\""},
		{"no_rule", "", trusted + "web", "nobody", "", ""},
		{"foreign", "", "spiffe://other.consul/ns/default/dc/dc1/svc/web", "db", "", ""},
		{"malformed", "", "web", "db", "", ""},
		{"unsupported", "", trusted + "jobs", "shop", "",
			"r1 default/jobs matches: the intention demands something that cannot be judged here, so it denies"},
		{"no_request", "", trusted + "web", "shop", "", notJobs + "r2 default/web matches: it has permissions, and no request was given"},
		{"path", "", trusted + "web", "shop", request("GET", "/?q=1", ""), notJobs + "r2 default/web matches\n" +
			"  deny: path \"/\" does not match \"/v[0-9]+/admin\"\n  allow: path \"/\" does not start with \"/v1/\"\n  allow matches\npath /"},
		{"method", "", trusted + "web", "shop", request("POST", "/v1/x", ""), notJobs + "r2 default/web matches\n" + notAdmin +
			"  allow: method POST is not among GET, PUT\n" + notTop},
		{"header_absent", "", trusted + "web", "shop", request("GET", "/v1/x", ""), notJobs + "r2 default/web matches\n" + notAdmin +
			"  allow: header x-tenant is absent\n" + notTop},
		{"header_present", "", trusted + "web", "shop", request("GET", "/v1/x", `"X-Debug":["hidden"]`), notJobs + "r2 default/web matches\n" +
			notAdmin + "  allow: header x-debug is present\n" + notTop},
		{"header_value", "", trusted + "web", "shop", request("GET", "/v1/x", `"X-Tenant":["hidden"]`), notJobs + "r2 default/web matches\n" +
			notAdmin + "  allow: header x-tenant is not \"A\" in any case\n" + notTop},
		{"two_readings", "", trusted + "web", "shop", request("GET", "/v1/x%2f..%2fadmin", `"x-tenant":["a"]`), notJobs +
			`r2 default/web matches: the path can be read as "/v1/x%2f..%2fadmin" or as "/v1/admin", and the two are not judged alike` + "\n" +
			`  deny: it matches only where the path is read as "/v1/admin"` + "\n" +
			`  allow: it matches only where the path is read as "/v1/x%2f..%2fadmin"` + "\npath /v1/x%2f..%2fadmin /v1/admin"},
		{"unreadable", "", trusted + "web", "shop", request("GET", "/%zz", ""), notJobs +
			"r2 default/web matches: the path is one that two servers could understand differently"},
		{"one_after_many", "", trusted + "s25", "crowd", "", strangers("s25") + "r26 default/s25 matches\nnot listed 5"},
		{"none_of_many", "", trusted + "web", "crowd", "", strangers("web") + "not listed 10"},
	} {
		t.Run(x.name, func(t *testing.T) {
			body := question(x.source, x.destination, x.more)
			a := k.ask(http.MethodPost, "/v1/authorize?explain"+x.query, body, http.StatusOK)
			plain := k.ask(http.MethodPost, "/v1/authorize?"+strings.TrimPrefix(x.query, "&"), body, http.StatusOK)
			if a.Explained == nil || plain.Explained != nil || a.Decision != plain.Decision || a.Reason != plain.Reason {
				t.Fatalf("got %s %s with explanation %v, and %s %s with %v without asking",
					a.Decision, a.Reason, a.Explained, plain.Decision, plain.Reason, plain.Explained)
			}
			if diff := cmp.Diff(x.want, a.Explained.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if a.Explained.DefaultAction != "deny" || a.Explained.DefaultOrigin != "config" {
				t.Errorf("got default %s by %s", a.Explained.DefaultAction, a.Explained.DefaultOrigin)
			}
		})
	}
	t.Run("batch", func(t *testing.T) { k.explainBatch(t) })
}

// What is said of the rules and permissions that most cases pass over.
const (
	notJobs  = "r1 default/jobs: the source is \"web\", not \"jobs\"\n"
	notAdmin = "  deny: path \"/v1/x\" does not match \"/v[0-9]+/admin\"\n"
	notTop   = "  allow: path \"/v1/x\" is not \"/\"\npath /v1/x"
)

func strangers(source string) string {
	var text strings.Builder
	for i := range 20 {
		fmt.Fprintf(&text, "r%d default/s%02d: the source is %q, not \"s%02d\"\n", i+1, i, source, i)
	}
	return text.String()
}

// explainBatch wants an explanation with every decision, and none with errors.
func (k *stack) explainBatch(t *testing.T) {
	list := []string{question(trusted+"web", "db", ""), question(trusted+"web", "foreign", ""), question(trusted+"api", "db", "")}
	a := k.ask(http.MethodPost, "/v1/authorize?explain=1", `{"requests":[`+strings.Join(list, ",")+`]}`, http.StatusOK)
	var got []bool
	for _, d := range a.Decisions {
		got = append(got, d.Explained != nil)
	}
	if !slices.Equal(got, []bool{true, false, true}) {
		t.Errorf("got explanations %v", got)
	}
}
