package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const adult = `package a

const limit = 18

type person struct{ age int }

func adult(p person, known bool) (ok bool) {
	if !known || p.age < limit {
		return false
	}
	ok = p.age > 0
	return ok
}
`

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindMutants(t *testing.T) {
	found, err := findMutants(write(t, map[string]string{"a.go": adult}), []string{"a.go"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range found {
		got = append(got, m.String())
		if _, err := parser.ParseFile(token.NewFileSet(), "", m.apply([]byte(adult)), 0); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	want := []string{
		"a.go:3 const: 18 -> 19",
		"a.go:11 adult: ok = p.age > 0 -> _, _ = ok, p.age > 0",
		"a.go:8 adult: !known || p.age < limit -> (true || !known || p.age < limit)",
		"a.go:8 adult: !known || p.age < limit -> (false && (!known || p.age < limit))",
		"a.go:8 adult: !known || p.age < limit -> !known && p.age < limit",
		"a.go:8 adult: !known || p.age < limit -> (false && (!known)) || p.age < limit",
		"a.go:8 adult: !known || p.age < limit -> !known || (false && (p.age < limit))",
		"a.go:8 adult: !known -> known",
		"a.go:8 adult: p.age < limit -> p.age <= limit",
		"a.go:8 adult: p.age < limit -> p.age >= limit",
		"a.go:9 adult: false -> true",
		"a.go:11 adult: p.age > 0 -> p.age >= 0",
		"a.go:11 adult: p.age > 0 -> p.age <= 0",
		"a.go:11 adult: 0 -> 1",
		"a.go:12 adult: return ok -> return true",
		"a.go:12 adult: return ok -> return false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEqualChangesAreNumbered(t *testing.T) {
	source := "package a\n\nfunc f() bool { if true {}; if true {}; return false }\n"
	found, err := findMutants(write(t, map[string]string{"a.go": source}), []string{"a.go"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range found {
		if seen[m.key()] {
			t.Errorf("two mutants are called %s", m.key())
		}
		seen[m.key()] = true
	}
	if !seen["a.go f: true -> false"] || !seen["a.go f: true -> false (2)"] {
		t.Errorf("got %v", seen)
	}
}

func TestReadAccepted(t *testing.T) {
	got, err := readAccepted(strings.NewReader("# about\na.go f: 1 -> 2\n\tone reason\n  on two lines\n\nb.go g: x -> y\n\tanother\n"))
	if err != nil || len(got) != 2 || got["a.go f: 1 -> 2"] != "one reason on two lines" || got["b.go g: x -> y"] != "another" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"a.go f: 1 -> 2\n", "\treason\n"} {
		if got, err := readAccepted(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: got %q, want an error", bad, got)
		}
	}
}

// TestMutate runs everything on a package whose test leaves the boundary open.
func TestMutate(t *testing.T) {
	dir := write(t, map[string]string{
		"go.mod": "module a\n\ngo 1.26\n", "a.go": adult,
		"a_test.go": "package a\n\nimport \"testing\"\n\nfunc TestAdult(t *testing.T) {\n\tif adult(person{17}, true) || !adult(person{20}, true) {\n\t\tt.Error()\n\t}\n}\n",
	})
	t.Chdir(dir)
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q").CombinedOutput(); err != nil {
		t.Skipf("git init: %v: %s", err, out)
	}
	var out bytes.Buffer
	o := options{dir: ".", files: []string{"a.go"}, jobs: 2, timeout: time.Minute, only: regexp.MustCompile("p.age < limit -> p.age|const")}
	err := mutate(t.Context(), o, &out)
	if err == nil || !strings.Contains(err.Error(), "2 mutants survived") {
		t.Fatalf("got %v and\n%s", err, &out)
	}
	for _, want := range []string{
		"killed    a.go:8 adult: p.age < limit -> p.age >= limit\n",
		"survived  a.go:8 adult: p.age < limit -> p.age <= limit\n",
		"\n3 mutants: 1 killed, 0 timed out, 2 survived (0 of them accepted); 0 more do not compile\n33.3 %",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &out)
		}
	}
	o.accepted = filepath.Join(dir, "accepted.txt")
	accept := func(text string) error {
		if err := os.WriteFile(o.accepted, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		return mutate(t.Context(), o, &out)
	}
	o.flags = []string{"-test.count=2"}
	both := "a.go adult: p.age < limit -> p.age <= limit\n\treason\na.go const: 18 -> 19\n\treason\n"
	if err := accept(both); err != nil || !strings.Contains(out.String(), "\n100.0 %") {
		t.Errorf("got %v and\n%s", err, &out)
	}
	if err := accept(both + "a.go gone: 1 -> 2\n\treason\n"); err == nil || !strings.Contains(err.Error(), "a.go gone: 1 -> 2") {
		t.Errorf("got %v, want one about what is gone", err)
	}
}

func TestMutateWantsGoodTests(t *testing.T) {
	dir := write(t, map[string]string{
		"go.mod": "module a\n\ngo 1.26\n", "a.go": adult, "a_test.go": "package a\n\nimport \"testing\"\n\nfunc TestBad(t *testing.T) { t.Fatal(adult(person{}, true)) }\n",
	})
	t.Chdir(dir)
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q").CombinedOutput(); err != nil {
		t.Skipf("git init: %v: %s", err, out)
	}
	o := options{dir: ".", files: []string{"a.go"}, jobs: 1, timeout: time.Minute, only: regexp.MustCompile("")}
	if err := mutate(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "without any change the tests end as killed") {
		t.Errorf("got %v", err)
	}
}
