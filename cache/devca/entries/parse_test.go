package entries

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// everyForm is one entry in each way of writing it.
var everyForm = map[string]string{
	"lists.hcl": `
Kind = "service-intentions"
Name = "db"
Meta = { owner = "data" }
Sources = [
  { Name = "web", Action = "allow" }, # a comment
  {
    Name = "api"
    Description = "reads"
    Permissions = [
      { Action = "allow", HTTP = { PathPrefix = "/v1/", Methods = ["GET", "head"],
          Header = [{ Name = "x-tenant", Exact = "a", IgnoreCase = true }] } },
    ]
  },
]
`,
	"blocks.hcl": `
kind = "service-intentions"
name = "db"
meta { owner = "data" }
sources { name = "web"  action = "allow" }
sources {
  name = "api"
  description = "reads"
  permissions {
    action = "allow"
    http {
      path_prefix = "/v1/"
      methods = ["GET", "HEAD"]
      header { name = "x-tenant"  exact = "a"  ignore_case = true }
    }
  }
}
`,
	"oneline.hcl": `Kind = "service-intentions" Name = "db" Meta { "owner" = "data" } Sources = [{Name="web" Action="allow"}, {Name="api" Description = "reads" Permissions=[{Action="allow" HTTP={PathPrefix="/v1/" Methods=["GET","HEAD"] Header=[{Name="x-tenant" Exact="a" IgnoreCase=true}]}}]}]`,
	"entry.json": `{"Kind": "service-intentions", "Name": "db", "Meta": {"owner": "data"}, "CreateIndex": 7, "ModifyIndex": 8,
  "Sources": [
    {"Name": "web", "Action": "allow", "Precedence": 9, "Type": "consul"},
    {"Name": "api", "Description": "reads", "Permissions": [{"Action": "allow", "JWT": null,
      "HTTP": {"PathPrefix": "/v1/", "Methods": ["GET", "HEAD"], "Header": [{"Name": "x-tenant", "Exact": "a", "IgnoreCase": true}]}}]}
  ]}`,
	"bootstrap.hcl": `config_entries { bootstrap = [{ kind = "service-intentions" name = "db" meta { owner = "data" }
  sources = [{ name = "web" action = "allow" }, { name = "api" description = "reads" permissions = [{ action = "allow"
    http = { path_prefix = "/v1/" methods = ["GET", "HEAD"] header = [{ name = "x-tenant" exact = "a" ignore_case = true }] } }] }] }] }`,
}

func TestParseFileReadsEveryForm(t *testing.T) {
	want := []Entry{{
		Name: "db", Meta: map[string]string{"owner": "data"},
		Sources: []Source{
			{Name: "web", Action: "allow"},
			{Name: "api", Description: "reads", Permissions: []Permission{{Action: "allow", HTTP: &HTTP{
				PathPrefix: "/v1/", Methods: []string{"GET", "HEAD"},
				Header: []Header{{Name: "x-tenant", Exact: "a", IgnoreCase: true}},
			}}}},
		},
	}}
	for name, text := range everyForm {
		t.Run(name, func(t *testing.T) {
			got, err := ParseFile(name, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Intentions, cmpopts.IgnoreFields(Entry{}, "Place")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseFileReadsServices(t *testing.T) {
	want := []Service{
		{ID: "web", Name: "web", Port: 8080, Native: true},
		{ID: "web-2", Name: "web", Port: 8081, Address: "10.0.0.2", Tags: []string{"a"}, Meta: map[string]string{"k": "v"}, Native: true},
	}
	for name, text := range map[string]string{
		"blocks.hcl": `
service { name="web" port=8080 connect { native = true } }
service {
  id = "web-2"
  name = "web"
  address = "10.0.0.2"
  port = 8081
  tags = ["a"]
  meta { k = "v" }
  connect { native = true }
  check { http = "http://127.0.0.1/"  interval = "10s" }
}`,
		"list.json": `{"services": [
  {"name": "web", "port": 8080, "connect": {"native": true}},
  {"id": "web-2", "name": "web", "address": "10.0.0.2", "port": 8081, "tags": ["a"], "meta": {"k": "v"},
   "connect": {"native": true}, "checks": []}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseFile(name, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Services, cmpopts.IgnoreFields(Service{}, "Place")); diff != "" {
				t.Error(diff)
			}
		})
	}
	got, err := ParseFile("one.json", []byte(`{"service":{"name":"web","port":1}}`))
	if err != nil || len(got.Services) != 1 || got.Services[0].Native {
		t.Errorf("got %+v and %v, want one service that is not native", got, err)
	}
}

type refusal struct {
	name, file, text string
	line             int
	want             string
}

// fileAndText completes a case that gives only sources.
func (c refusal) fileAndText() (file, text string) {
	if c.file != "" {
		return c.file, c.text
	}
	return "db.hcl", "Kind = \"service-intentions\"\nName = \"db\"\nSources = [" + c.text + "]\n"
}

// refused are the sources of an entry for destination db, or whole files, that
// Consul refuses.
var refused = []refusal{
	{"not hcl", "a.hcl", "Kind = \n=", 2, "unexpected"},
	{"unclosed", "a.hcl", "service {\n", 2, "ends too early"},
	{"unclosed text", "a.hcl", "Kind = \"x", 1, "close"},
	{"expression", "a.hcl", `Kind = "${x}"`, 1, "no expressions"},
	{"bare word", "a.hcl", "Kind = \"service-intentions\"\nName = db", 2, "a value"},
	{"label", "a.hcl", `service "web" {}`, 1, `write "=" or "{"`},
	{"not json", "a.json", "{\n\"Kind\": }", 2, "correct the JSON"},
	{"unclosed json", "a.json", "{\n\"Kind\": \"x\"", 2, "ends too early"},
	{"two values", "a.json", "{}\n{}", 2, "one value"},
	{"array", "a.json", "[]", 1, "one object"},
	{"other kind", "a.hcl", `Kind = "mesh"`, 1, Kind},
	{"unknown top key", "a.hcl", "Kindd = \"x\"", 1, "unknown key Kindd; known here: ConfigEntries, Kind, Service"},
	{"no name", "a.hcl", "Kind = \"service-intentions\"\nSources = [{ Name = \"web\" Action = \"allow\" }]", 1, "Name is missing"},
	{"partial wildcard", "a.hcl", "Kind = \"service-intentions\"\nName = \"d*\"", 2, "part of a name"},
	{"no sources", "a.hcl", "Kind = \"service-intentions\"\nName = \"db\"", 1, "at least one source"},
	{"permissions to all", "a.hcl", "Kind = \"service-intentions\"\nName = \"*\"\nSources = [{ Name = \"web\"\nPermissions = [{ Action = \"allow\" HTTP = { PathPrefix = \"/\" } }] }]", 4, `belong to destination "*"`},
	{"namespace", "a.hcl", "Kind = \"service-intentions\"\nNamespace = \"default\"\nName = \"db\"\nSources = [{ Name = \"web\" Action = \"allow\" }]", 2, "unknown key Namespace"},
	{"twice in json", "a.json", `{"Kind": "service-intentions", "Kind": "service-intentions"}`, 1, "given twice"},

	{"unknown key", "", "{ Name = \"web\"\nActoin = \"allow\" }", 4, "unknown key Sources[0].Actoin; known here: Action, "},
	{"bad action", "", `{ Name = "web" Action = "alow" }`, 3, `Sources[0].Action is "alow"; write "allow" or "deny"`},
	{"no action", "", `{ Name = "web" }`, 3, actionRemedy},
	{"upper case action", "", `{ Name = "web" Action = "Allow" }`, 3, actionRemedy},
	{"action not text", "", `{ Name = "web" Action = true }`, 3, "Sources[0].Action is true or false; write a text"},
	{"type", "", `{ Name = "web" Action = "allow" Type = "external" }`, 3, `"consul"`},
	{"both", "", "{ Name = \"web\"\nAction = \"allow\"\nPermissions = [{ Action = \"allow\" HTTP = { PathPrefix = \"/\" } }] }", 4, "either Action or Permissions"},
	{"duplicate", "", "{ Name = \"web\" Action = \"allow\" },\n{ Name = \"web\" Action = \"deny\" }", 4, "more than once"},
	{"action twice", "", `{ Name = "web" Action = "allow" Action = "deny" }`, 3, "given twice"},
	{"sameness group", "", `{ Name = "web" Action = "allow" SamenessGroup = "g" }`, 3, "unknown key"},
	{"legacy", "", `{ Name = "web" Action = "allow" LegacyID = "x" }`, 3, "unknown key"},
	{"peer wildcard", "", `{ Name = "web" Action = "allow" Peer = "*" }`, 3, "one peer"},
	{"no http", "", `{ Name = "web" Permissions = [{ Action = "allow" }] }`, 3, "HTTP is missing"},
	{"empty http", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = {} }] }`, 3, "Sources[0].Permissions[0].HTTP is empty"},
	{"permission action", "", `{ Name = "web" Permissions = [{ HTTP = { PathPrefix = "/" } }] }`, 3, "Sources[0].Permissions[0].Action"},
	{"two paths", "", "{ Name = \"web\" Permissions = [{ Action = \"allow\" HTTP = { PathExact = \"/a\"\nPathPrefix = \"/a\" } }] }", 4, "keep one of"},
	{"no slash", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { PathExact = "a" } }] }`, 3, `begin the path with "/"`},
	{"bad path regex", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { PathRegex = "(" } }] }`, 3, "RE2"},
	{"bad header regex", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { Header = [{ Name = "x" Regex = "(?=a)" }] } }] }`, 3, "RE2"},
	{"method", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { Methods = ["FETCH"] } }] }`, 3, "unknown method"},
	{"method twice", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { Methods = ["GET", "get"] } }] }`, 3, "more than once"},
	{"header name", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { Header = [{ Exact = "x" }] } }] }`, 3, "name the header"},
	{"header conditions", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { Header = [{ Name = "x" Exact = "x" Prefix = "y" }] } }] }`, 3, "exactly one"},
	{"ignore case present", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { Header = [{ Name = "x" Present = true IgnoreCase = true }] } }] }`, 3, "IgnoreCase"},
	{"ignore case regex", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { Header = [{ Name = "x" Regex = "a" IgnoreCase = true }] } }] }`, 3, "IgnoreCase"},
	{"jwt provider", "", `{ Name = "web" Permissions = [{ Action = "allow" HTTP = { PathPrefix = "/" } JWT { Providers = [{}] } }] }`, 3, "name the JWT provider"},

	{"service name", "s.hcl", `service { name = "a b" port = 1 }`, 1, "letters"},
	{"service port", "s.hcl", `service { name = "a" port = 70000 }`, 1, "1 to 65535"},
	{"native port", "s.hcl", `service { name = "a" connect { native = true } }`, 1, "give the port"},
	{"sidecar", "s.hcl", `service { name = "a" port = 1 connect { sidecar_service {} } }`, 1, "native = true"},
	{"proxy", "s.hcl", `service { kind = "connect-proxy" name = "a" port = 1 }`, 1, "proxy or gateway"},
	{"service key", "s.hcl", `service { name = "a" prot = 1 }`, 1, "unknown key Service[0].prot; known here: address, check, checks, connect, enable_tag_override, id"},
}

func TestParseFileRefuses(t *testing.T) {
	for _, c := range refused {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			file, text := c.fileAndText()
			_, err := ParseFile(file, []byte(text))
			var got *Error
			if !errors.As(err, &got) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got.Place.File != file || got.Place.Line != c.line || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want line %d and %q", err, c.line, c.want)
			}
		})
	}
}

func TestParseFilesRefusesDoubles(t *testing.T) {
	const db = "Kind = \"service-intentions\" Name = \"%\" Sources = [{ Name = \"web\" Action = \"allow\" }]"
	_, err := ParseFiles(map[string]string{
		"a.hcl": strings.Replace(db, "%", "db", 1),
		"b.hcl": strings.Replace(db, "%", "DB", 1),
	})
	if err == nil || !strings.Contains(err.Error(), `b.hcl:1: destination "db" is defined already at a.hcl:1`) {
		t.Errorf("got %v", err)
	}
	_, err = ParseFiles(map[string]string{"a.hcl": `service { name = "a" port = 1 } service { name = "a" port = 2 }`})
	if err == nil || !strings.Contains(err.Error(), `service ID "a"`) {
		t.Errorf("got %v", err)
	}
}

func TestParseFileBoundsDepthAndSize(t *testing.T) {
	for name, text := range map[string]string{
		"deep.json":  strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000),
		"deep.hcl":   strings.Repeat("a {\n", 10000) + strings.Repeat("}", 10000),
		"lists.hcl":  "a = " + strings.Repeat("[", 10000) + strings.Repeat("]", 10000),
		"lists.json": strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"large.hcl":  strings.Repeat("#", MaxBytes+1),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseFile(name, []byte(text)); err == nil || !strings.Contains(err.Error(), "too") {
				t.Errorf("got %v, want a refusal", err)
			}
		})
	}
}

func FuzzParseFile(f *testing.F) {
	for name, text := range everyForm {
		f.Add(name, text)
	}
	for _, c := range refused {
		f.Add(c.file, c.text)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		_, err := ParseFile(name, []byte(text))
		var got *Error
		if err != nil && !errors.As(err, &got) {
			t.Errorf("got %v, want an *Error", err)
		}
		if got != nil && (got.Place.Line < 1 || got.Remedy == "") {
			t.Errorf("got %+v, want a place and a remedy", got)
		}
	})
}
