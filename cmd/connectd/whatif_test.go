package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connectd/connectd/cache/devca"
)

// meshNow is what the tests of proposals start from.
var meshNow = map[string]string{
	"db":   samples,
	"all":  `Kind = "service-intentions" Name = "*" Sources = [{ Name = "jobs" Action = "allow" }]`,
	"shop": `Kind = "service-intentions" Name = "shop" Sources = [{ Name = "web" Action = "allow" }]`,
}

// startMesh serves meshNow with web and db as services of this host.
func startMesh(t *testing.T) (socket string) {
	t.Helper()
	socket = socketPath(t)
	startAuthority(t, socket, devca.Config{Intentions: meshNow, Services: []devca.Service{
		{Name: "web", Port: 8080, Native: true}, {Name: "db", Port: 5432, Native: true},
	}})
	for _, service := range []string{"web", "db"} {
		if got := runCommand(t, "leaf", service, "--socket", socket); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
	}
	return socket
}

func writeProposal(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("p.hcl", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "p.hcl"
}

const denyWeb = `Kind = "service-intentions" Name = "db" Sources = [
  { Name = "web" Action = "deny" },
  { Name = "cart" Permissions = [{ Action = "allow" HTTP { PathPrefix = "/v2/" } }] },
]`

func TestWhatIfForPeople(t *testing.T) {
	socket := startMesh(t)
	for _, tt := range []struct {
		name, proposal, args string
		code                 int
		want                 string
	}{
		{"same", samples, "", 0, "db with p.hcl:\n\nnothing changes for any of 5 sources\n"},
		{"connection", denyWeb, "", 1, `db with p.hcl:

SOURCE  NOW          THEN
cart    per_request  per_request (other permissions)
web     allow        deny

2 of 5 sources change
`},
		{"request_alike", denyWeb, "--path /x", 1, `db with p.hcl, for GET /x:

SOURCE  NOW    THEN
web     allow  deny

1 of 5 sources changes
`},
		{"request", denyWeb, "--path /v2/x --source cart", 1, `db with p.hcl, for GET /v2/x:

SOURCE  NOW                           THEN
cart    per_request (this one: deny)  per_request (this one: allow)
web     allow                         deny

2 of 5 sources change

cart now   per_request (this one: deny)   default_action, rule r1
cart then  per_request (this one: allow)  permission, rule r1
`},
		{"one_source_stays", denyWeb, "--source spiffe://" + devca.TrustDomain + "/ns/default/dc/dc1/svc/jobs --destination default/default/DB", 1, `db with p.hcl:

SOURCE  NOW          THEN
cart    per_request  per_request (other permissions)
web     allow        deny

2 of 5 sources change

spiffe://` + devca.TrustDomain + `/ns/default/dc/dc1/svc/jobs now   allow  intention, rule r3
spiffe://` + devca.TrustDomain + `/ns/default/dc/dc1/svc/jobs then  allow  intention, rule r3
`},
		{"other_destination", samples, "--destination shop --source web", 0, `db with p.hcl:

nothing changes for any of 5 sources

shop with p.hcl:

nothing changes for any of 4 sources

web now   allow  intention, rule r1
web then  allow  intention, rule r1
`},
		{"new_destination", strings.ReplaceAll(strings.ReplaceAll(samples, `"db"`, `"new"`), `"web"`, `"*"`), "", 1, `new with p.hcl:

SOURCE             NOW   THEN
cart               deny  per_request
db                 deny  allow
web                deny  allow
any other service  deny  allow

4 of 5 sources change
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"authorize", "--socket", socket, "--what-if", writeProposal(t, tt.proposal)}, strings.Fields(tt.args)...)
			got := runCommand(t, args...)
			if diff := cmp.Diff(tt.want, got.out); diff != "" || got.code != tt.code || got.err != "" {
				t.Errorf("got %d and %q, -want +got:\n%s", got.code, got.err, diff)
			}
			got = runCommand(t, append(args, "--json")...)
			if a := decode[whatIfAnswer](t, got); got.code != tt.code || a.Changes != (tt.code == 1) || len(a.Destinations) == 0 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestWhatIfForEveryDestination proposes to deny what the entry for every
// destination allows.
func TestWhatIfForEveryDestination(t *testing.T) {
	socket := startMesh(t)
	path := writeProposal(t, `Kind = "service-intentions" Name = "*" Sources = [{ Name = "jobs" Action = "deny" }]`)
	got := runCommand(t, "authorize", "--what-if", path, "--socket", socket, "--json", "--destination", "shop")
	var names []string
	for _, d := range decode[whatIfAnswer](t, got).Destinations {
		names = append(names, d.Destination.Name)
		if len(d.Changes) != 1 || d.Changes[0].Source != "jobs" {
			t.Errorf("%s: got %+v", d.Destination.Name, d.Changes)
		}
	}
	if strings.Join(names, " ") != "db web shop" || got.code != 1 {
		t.Errorf("got %d and destinations %q", got.code, names)
	}
}

func TestWhatIfReadsStandardInput(t *testing.T) {
	socket := startMesh(t)
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"authorize", "--what-if", "-", "--socket", socket})
	root.SetIn(strings.NewReader(denyWeb))
	root.SetOut(&out)
	if err := root.ExecuteContext(t.Context()); err != exitCode(1) || !strings.HasPrefix(out.String(), "db with standard input:\n") {
		t.Errorf("got %v and %s", err, out.String())
	}
}

func TestWhatIfErrors(t *testing.T) {
	socket := startMesh(t)
	empty := socketPath(t)
	startAuthority(t, empty, devca.Config{})
	everywhere := `Kind = "service-intentions" Name = "*" Sources = [{ Name = "jobs" Action = "deny" }]`
	for _, tt := range []struct{ name, proposal, args, want string }{
		{"syntax", "Kind = \"service-intentions\"\nName = \"db\"\nSources = [{ Name = \"web\" }]", "", "p.hcl:3: "},
		{"no_intentions", `service { name = "web" }`, "", "p.hcl:1: the file proposes no intentions"},
		{"no_file", samples, "--what-if " + filepath.Join("absent", "x"), "no such file or directory; --what-if takes a file, or -"},
		{"directory", samples, "--what-if .", "is a directory"},
		{"bad_header", samples, "--header x", "name:value"},
		{"bad_source", samples, "--source a/b", "is not a service"},
		{"bad_destination", samples, "--destination a/b", "is not a service"},
		{"other_namespace", samples, "--destination default/other/db", "outside of the default partition and namespace"},
		{"nobody_known", everywhere, "--socket " + empty, "name one with --destination"},
		{"no_socket", samples, "--socket " + socketPath(t), "is the daemon running?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"authorize", "--socket", socket, "--what-if", writeProposal(t, tt.proposal)}, strings.Fields(tt.args)...)
			got := runCommand(t, args...)
			if got.code != exitError || got.out != "" || !strings.Contains(got.err, tt.want) || strings.Count(got.err, "\n") != 1 {
				t.Errorf("got %+v, want %q", got, tt.want)
			}
		})
	}
}
