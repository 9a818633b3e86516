package treetest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestImports(t *testing.T) {
	g := loadTree(t).graph()
	rules := slices.Concat(dag, owners)
	for _, v := range violations(g, rules) {
		t.Error(v)
	}
	for _, r := range rules {
		if r.reason == "" {
			t.Errorf("the rule about %s and %s has no reason", r.from, r.imports)
		}
	}
	for _, pattern := range vacuous(g, rules) {
		t.Logf("vacuous: no package %s yet", pattern)
	}
}

func TestPackagesHavePlace(t *testing.T) {
	for _, pkg := range unplaced(loadTree(t).graph(), dag) {
		t.Errorf("%s has no place in the order of packages: add a row to dag in rules_test.go", pkg)
	}
}

// The client's whole closure is checked, not only its own imports, because that closure is
// what an application takes.
func TestClientClosure(t *testing.T) {
	g := loadTree(t).graph()
	for pkg := range g {
		if !matches("./clients/go/connectd/...", pkg) {
			continue
		}
		for _, path := range g.closure(pkg) {
			if !matches("std ./intentions/... ./clients/go/connectd/...", path) {
				t.Errorf("%s reaches %s: an application that takes the client takes that too", pkg, path)
			}
		}
	}
}

func TestRules(t *testing.T) {
	tests := []struct{ pkg, path string }{
		{"./intentions", "github.com/google/go-cmp/cmp"},
		{"./intentions", "./cache"},
		{"./store", "./cache"},
		{"./store", "crypto/x509"},
		{"./cache", "./store"},
		{"./cache", "net/http"},
		{"./cache", "testing"},
		{"./cache/consul", "./cache/consul/consultest"},
		{"./cache/consul/consultest", "./cache"},
		{"./cache/devca", "./cache/consul"},
		{"./cache/devca", "net/http/httputil"},
		{"./socketapi", "./store"},
		{"./socketapi", "github.com/hashicorp/consul/api"},
		{"./daemon", "github.com/go-chi/chi/v5"},
		{"./daemon", "go.etcd.io/bbolt"},
		{"./daemon", "./cache/sourcetest"},
		{"./clients/go/connectd", "github.com/hashicorp/go-hclog"},
		{"./clients/go/connectd", "./socketapi"},
		{"./clients/go/connect", "github.com/hashicorp/consul/connect"},
		{"./cmd/connectd", "./cache"},
		{"./cmd/connectd", "github.com/hashicorp/hcl/v2"},
		{"./cmd/connectd", "github.com/open-policy-agent/opa/v1/rego"},
		{"./internal/tools/x", "./intentions"},
	}
	for _, tt := range tests {
		t.Run(strings.Trim(tt.pkg+"-"+filepath.Base(tt.path), "./"), func(t *testing.T) {
			got := violations(graph{tt.pkg: {"errors", tt.path}}, slices.Concat(dag, owners))
			if want := tt.pkg + " imports " + tt.path + ": "; len(got) == 0 || !strings.HasPrefix(got[0], want) {
				t.Errorf("got %q, want %q and a reason", got, want)
			}
		})
	}
}

func TestRulesAllowTheDesign(t *testing.T) {
	g := graph{
		"./intentions":                         {"strings"},
		"./store":                              {"go.etcd.io/bbolt", "go.etcd.io/bbolt/errors"},
		"./cache":                              {"./intentions", "crypto/x509"},
		"./cache/consul":                       {"./cache", "./intentions", "github.com/hashicorp/consul/api", "net/http"},
		"./cache/devca":                        {"./cache", "crypto/x509"},
		"./cache/sourcetest":                   {"./cache", "testing"},
		"./cache/consul/consultest":            {"testing", "github.com/hashicorp/consul/api", "net/http"},
		"./cache/consul/consultest/sdk/sdkapp": {"github.com/hashicorp/consul/connect"},
		"./socketapi":                          {"./cache", "./intentions", "github.com/go-chi/chi/v5", "net/http"},
		"./daemon":                             {"./store", "./cache/consul", "./cache/devca", "./socketapi", "github.com/hashicorp/hcl/v2/hclsimple"},
		"./clients/go/connectd":                {"./intentions", "net/http", "crypto/tls"},
		"./clients/go/connectd/internal/anything": {"errors"},
		"./cmd/connectd":       {"./daemon", "./clients/go/connectd", "github.com/spf13/cobra"},
		"./cmd/connectd-bench": {"testing", "./intentions", "./daemon", "github.com/open-policy-agent/opa/v1/rego"},
	}
	if got := violations(g, slices.Concat(dag, owners)); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	if got := unplaced(g, dag); len(got) > 0 {
		t.Errorf("without a place: %q", got)
	}
}

func TestVacuous(t *testing.T) {
	rules := []rule{{from: "./a ./b/...", other: "./c"}, {from: "...", other: "./c x.org/y"}}
	if got, want := vacuous(graph{"./b/d": nil}, rules), []string{"./a", "./c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnplaced(t *testing.T) {
	g := graph{"./intentions": nil, "./newcomer": nil}
	if got, want := unplaced(g, dag), []string{"./newcomer"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestClosureReachesThroughOurs(t *testing.T) {
	g := graph{"./a": {"./b"}, "./b": {"./c"}, "./c": {"x.org/y"}}
	if got, want := g.closure("./a"), []string{"./b", "./c", "x.org/y"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// goMod is what `go mod edit -json` says, as far as the rules need it.
type goMod struct {
	Module  struct{ Path string }
	Require []struct{ Path string }
	Replace []struct{ Old struct{ Path string } }
}

// nestedOnly names the modules that the root must not require, and where they belong.
var nestedOnly = map[string]string{
	"github.com/hashicorp/consul":      "Consul's server code belongs to the nested test module",
	"github.com/open-policy-agent/opa": "what is only measured beside us belongs to the nested module of the benchmarks",
}

func (m goMod) violations() []string {
	var found []string
	for _, r := range m.Replace {
		found = append(found, "replaces "+r.Old.Path+": with a replace `go install "+module+"/...@version` fails")
	}
	for _, r := range m.Require {
		if reason := nestedOnly[r.Path]; reason != "" {
			found = append(found, "requires "+r.Path+": "+reason)
		}
	}
	return found
}

func readGoMod(t *testing.T, path string) goMod {
	t.Helper()
	// The file is opened here too, because cached results only know what the test itself opens.
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", path).Output()
	if err != nil {
		t.Fatalf("go mod edit -json %s: %v", path, err)
	}
	var m goMod
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGoMod(t *testing.T) {
	m := readGoMod(t, filepath.Join(root(t), "go.mod"))
	if m.Module.Path != module {
		t.Errorf("got module %q, want %q", m.Module.Path, module)
	}
	for _, v := range m.violations() {
		t.Error("go.mod " + v)
	}
}

func TestGoModRules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "go.mod")
	content := "module m\n\nrequire github.com/hashicorp/consul v1.22.5\n\nrequire github.com/hashicorp/consul/api v1.33.2\n\nreplace x.org/y => ../y\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	got := readGoMod(t, path).violations()
	if len(got) != 2 || !strings.HasPrefix(got[0], "replaces x.org/y") || !strings.HasPrefix(got[1], "requires github.com/hashicorp/consul:") {
		t.Errorf("got %q", got)
	}
}
