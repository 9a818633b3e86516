package treetest

import (
	"strings"
	"testing"
)

func mustParse(t *testing.T, path, content string) file {
	t.Helper()
	f, err := parse(path, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCommentViolations(t *testing.T) {
	tests := []struct {
		name, path, content, want string
	}{
		{"good", "a/doc.go", "// Package a does one thing.\npackage a\n", ""},
		{"command", "a/doc.go", "// Command a does one thing.\npackage main\n", ""},
		{"wrapped", "a/doc.go", "// Package a does one thing, and\n// says so.\npackage a\n", ""},
		{"absent", "a/a.go", "package a\n", "missing"},
		{"elsewhere", "a/a.go", "// Package a does one thing.\npackage a\n", "belongs to doc.go"},
		{"other-name", "a/doc.go", "// Package b does one thing.\npackage a\n", "does not start"},
		{"no-stop", "a/doc.go", "// Package a does one thing\npackage a\n", "full stop"},
		{"two-sentences", "a/doc.go", "// Package a does one thing. And one more.\npackage a\n", "more than one"},
		{"two-paragraphs", "a/doc.go", "// Package a does\n//\n// one thing.\npackage a\n", "more than one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, commentViolations(tree{mustParse(t, tt.path, tt.content)}), tt.want)
		})
	}
}

func TestBudgetViolations(t *testing.T) {
	const reason = overBudget + "a table reads best whole."
	long := "func f() {\n" + strings.Repeat("\t_ = 1\n", maxFunctionLines-1) + "}\n"
	fits := "func f() {\n" + strings.Repeat("\t_ = 1\n", maxFunctionLines-2) + "}\n"
	large := strings.Repeat("\n", maxFileLines)
	wide := "type i interface{ A(); B(); C(); D() }\n"
	tests := []struct {
		name, body, want string
	}{
		{"function-fits", fits, ""},
		{"function-long", long, "f has 61 lines"},
		{"function-excused", reason + "\n" + long, ""},
		{"function-no-reason", overBudget + "\n" + long, "f has 61 lines"},
		{"function-elsewhere", reason + "\n\nvar x int\n\n" + long, "f has 61 lines"},
		{"file-large", "var x int\n" + large, "lines: keep it to 400"},
		{"file-excused", reason + "\n\nvar x int\n" + large, ""},
		{"file-elsewhere", "var x int\n\n" + reason + "\n" + large, "lines: keep it to 400"},
		{"interface-wide", wide, "i has 4 methods"},
		{"interface-excused", reason + "\n" + wide, ""},
		{"interface-narrow", "type i interface{ A(); B(); C() }\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := mustParse(t, "a/a.go", "package a\n\n"+tt.body)
			expect(t, append(append(fileViolations(f), functionViolations(f)...), interfaceViolations(f)...), tt.want)
		})
	}
}

func TestSleeps(t *testing.T) {
	f := mustParse(t, "a/a_test.go", "package a\n\nimport \"time\"\n\nfunc f() {\n\tdefer time.Sleep(1)\n}\n")
	if got := sleeps(f); len(got) != 1 || got[0] != (sleep{"f", 6}) {
		t.Errorf("got %v, want one in f", got)
	}
	if got := sleeps(mustParse(t, "a/a_test.go", "package a\n\nfunc f() { synctest.Test(t, func() { time.Sleep(1) }) }\n")); len(got) != 0 {
		t.Errorf("a sleep in a bubble: got %v, want none", got)
	}
	if got := sleeps(mustParse(t, "a/a_test.go", "package a\n\nfunc f() { x.Sleep() }\n")); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

// expect wants first a violation that contains want, or none if want is empty.
func expect(t *testing.T, got []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(got) > 0:
		t.Errorf("got %q, want none", got)
	case want != "" && (len(got) == 0 || !strings.Contains(got[0], want)):
		t.Errorf("got %q, want first one with %q", got, want)
	}
}
