package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stream builds lines of go test -json.
func stream(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

func TestSummarize(t *testing.T) {
	tests := []struct {
		name, in, want string
		ok             bool
	}{
		{
			name: "pass",
			in: stream(`{"Action":"start","Package":"m/a"}`, `{"Action":"run","Package":"m/a","Test":"TestA"}`,
				`{"Action":"pass","Package":"m/a","Test":"TestA"}`, `{"Action":"pass","Package":"m/a","Elapsed":1.5}`),
			want: "ok    a                                          1 passed, 0 failed, 0 skipped, 1.50 s\n" +
				"\n1 passed, 0 failed, 0 skipped\n",
			ok: true,
		},
		{
			name: "nothing",
			in:   stream(`{"Action":"skip","Package":"m/a"}`),
			want: "no test was executed: that is a failure\n\n0 passed, 0 failed, 0 skipped\n",
		},
		{
			name: "skips-alone",
			in: stream(`{"Action":"output","Package":"m/a","Test":"TestA","Output":"    a_test.go:1: no Consul\n"}`,
				`{"Action":"skip","Package":"m/a","Test":"TestA"}`, `{"Action":"pass","Package":"m/a"}`),
			want: "      skip TestA: a_test.go:1: no Consul\nno test was executed",
		},
		{
			name: "cut-short",
			in: stream(`{"Action":"run","Package":"m/a","Test":"TestA"}`,
				`{"Action":"output","Package":"m/a","Test":"TestA","Output":"half a\n"}`),
			want: "      half a\n      --- did not end: TestA\n\n0 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "build-without-package",
			in: stream(`{"Action":"build-output","ImportPath":"m/a","Output":"a.go:1: no\n"}`,
				`{"Action":"build-fail","ImportPath":"m/a"}`),
			want: "FAIL  m/a\n      a.go:1: no\n\n0 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "not-an-event",
			in:   stream(`panic: somewhere`),
			want: "panic: somewhere\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			ok, err := summarize(strings.NewReader(tt.in), &out, "m")
			if err != nil || ok != tt.ok {
				t.Errorf("got %v, %v, want %v", ok, err, tt.ok)
			}
			if got := out.String(); !strings.Contains(got, tt.want) {
				t.Errorf("got\n%s\nwant in it\n%s", got, tt.want)
			}
		})
	}
}

// The go command decides what a stream looks like, so its own is the one to understand.
func TestSummarizeGoTest(t *testing.T) {
	for _, tt := range goTestCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "go.mod"), "module m\n\ngo 1.26.0\n")
			write(t, filepath.Join(dir, "p", "p_test.go"), "package p\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nvar _ = os.Exit\n\n"+tt.body)
			cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "./...")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GOWORK=off")
			events, err := cmd.Output()
			if (err == nil) != tt.ok {
				t.Fatalf("go test: %v\n%s", err, events)
			}
			var out bytes.Buffer
			ok, err := summarize(bytes.NewReader(events), &out, "m")
			if err != nil || ok != tt.ok {
				t.Errorf("got %v, %v, want %v", ok, err, tt.ok)
			}
			got := out.String()
			if !strings.HasSuffix(got, "\n"+tt.closing+"\n") {
				t.Errorf("want the closing line %q, got\n%s", tt.closing, got)
			}
			for _, text := range tt.shown {
				if strings.Count(got, text) != 1 {
					t.Errorf("want once %q, got\n%s\nfrom\n%s", text, got, events)
				}
			}
		})
	}
}

var goTestCases = []struct {
	name, body string
	ok         bool
	closing    string
	shown      []string
}{
	{
		name: "subtests",
		body: `func TestA(t *testing.T) { t.Run("b/c", func(*testing.T) {}); t.Run("d", func(t *testing.T) { t.Skip("no") }) }
func TestE(t *testing.T) {}`,
		ok:      true,
		closing: "2 passed, 0 failed, 1 skipped",
		shown:   []string{"skip TestA/d: p_test.go:10: no"},
	},
	{
		name: "failing-subtest",
		body: `func TestA(t *testing.T) { t.Log("around"); t.Run("b", func(t *testing.T) { t.Error("got 1") }) }
func TestC(t *testing.T) { t.Log("quiet") }`,
		closing: "1 passed, 1 failed, 0 skipped",
		shown:   []string{"around", "got 1", "--- FAIL: TestA/b"},
	},
	{
		name:    "panic",
		body:    `func TestA(t *testing.T) { panic("torn") }`,
		closing: "0 passed, 1 failed, 0 skipped",
		shown:   []string{"panic: torn"},
	},
	{
		name:    "exit",
		body:    `func TestA(t *testing.T) { os.Exit(3) }`,
		closing: "0 passed, 1 failed, 0 skipped",
		shown:   []string{"did not end: TestA"},
	},
	{
		name:    "main-fails",
		body:    "func TestA(t *testing.T) {}\nfunc TestMain(m *testing.M) { m.Run(); println(\"leaked\"); os.Exit(1) }",
		closing: "1 passed, 1 failed, 0 skipped",
		shown:   []string{"leaked"},
	},
	{
		name:    "no-build",
		body:    `func TestA(t *testing.T) { undefinedName() }`,
		closing: "0 passed, 1 failed, 0 skipped",
		shown:   []string{"undefined: undefinedName", "did not build"},
	},
	{
		name:    "no-vet",
		body:    `func TestA(t *testing.T) { t.Errorf("%d", "x") }`,
		closing: "0 passed, 1 failed, 0 skipped",
		shown:   []string{"wrong type"},
	},
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
