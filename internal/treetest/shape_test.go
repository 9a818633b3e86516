package treetest

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// Budgets. What is larger says why, right where it is, after overBudget.
const (
	maxFunctionLines = 60
	maxFileLines     = 400
	maxMethods       = 3
	overBudget       = "// Over budget: "
)

// A sleepException allows one test function to sleep.
type sleepException struct{ file, function, reason string }

// sleepExceptions has to stay short. A sleep that waits for something is never a reason: it
// is too short on a busy machine and too long on every other. One in a bubble of
// testing/synctest, which takes no time, can be.
var sleepExceptions = []sleepException{
	{"cache/age_test.go", "TestRestoreKeepsAges", "its cases sleep in the bubble in which the test plays them"},
}

func TestPackageComments(t *testing.T) {
	packages := loadTree(t).packages()
	for _, pkg := range sorted(packages) {
		for _, v := range commentViolations(packages[pkg]) {
			t.Errorf("%s: %s", pkg, v)
		}
	}
}

func TestBudgets(t *testing.T) {
	for _, f := range loadTree(t) {
		if f.isTest() {
			continue
		}
		for _, v := range slices.Concat(fileViolations(f), functionViolations(f), interfaceViolations(f)) {
			t.Errorf("%s, or say why in a comment that starts with %q", v, overBudget)
		}
	}
}

func TestNoSleepInTests(t *testing.T) {
	used := map[sleepException]bool{}
	for _, f := range loadTree(t) {
		if !f.isTest() {
			continue
		}
		for _, s := range sleeps(f) {
			at := slices.IndexFunc(sleepExceptions, func(e sleepException) bool { return e.file == f.path && e.function == s.function })
			if at < 0 {
				t.Errorf("%s:%d: %s sleeps: wait for the event, or give a reason in sleepExceptions", f.path, s.line, s.function)
				continue
			}
			used[sleepExceptions[at]] = true
		}
	}
	for _, e := range sleepExceptions {
		if e.reason == "" || !used[e] {
			t.Errorf("the exception for %s in %s has no reason or no use", e.function, e.file)
		}
	}
}

// commentViolations checks that doc.go alone holds the package comment, in one sentence.
func commentViolations(files tree) []string {
	var found []string
	documented := false
	for _, f := range files {
		name := f.path[strings.LastIndexByte(f.path, '/')+1:]
		switch {
		case f.isTest() || f.syntax.Doc == nil:
			continue
		case name != "doc.go":
			found = append(found, name+" has a package comment: it belongs to doc.go")
			continue
		}
		documented = true
		if why := judgeComment(f.syntax.Name.Name, f.syntax.Doc.Text()); why != "" {
			found = append(found, "the package comment "+why)
		}
	}
	if !documented {
		found = append(found, "doc.go with a package comment is missing")
	}
	return found
}

func judgeComment(pkg, text string) string {
	want := "Package " + pkg + " "
	if pkg == "main" {
		want = "Command "
	}
	flat := strings.Join(strings.Fields(text), " ")
	switch {
	case !strings.HasPrefix(flat, want):
		return fmt.Sprintf("does not start with %q", want)
	case !strings.HasSuffix(flat, "."):
		return "does not end with a full stop"
	case len(new(comment.Parser).Parse(text).Content) != 1 || strings.Contains(flat, ". "):
		return "is more than one sentence: if the job needs two, there are two jobs"
	}
	return ""
}

func fileViolations(f file) []string {
	lines := f.set.File(f.syntax.FileStart).LineCount()
	if lines <= maxFileLines || excused(f, f.syntax.FileStart, firstDeclaration(f)) {
		return nil
	}
	return []string{fmt.Sprintf("%s has %d lines: keep it to %d", f.path, lines, maxFileLines)}
}

// firstDeclaration returns where the head of a file ends.
func firstDeclaration(f file) token.Pos {
	for _, d := range f.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			return start(d.Doc, d)
		case *ast.GenDecl:
			if d.Tok != token.IMPORT {
				return start(d.Doc, d)
			}
		}
	}
	return f.syntax.FileEnd
}

func start(doc *ast.CommentGroup, n ast.Node) token.Pos {
	if doc != nil {
		return doc.Pos()
	}
	return n.Pos()
}

func functionViolations(f file) []string {
	var found []string
	for _, d := range f.syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := f.lines(fn.Pos(), fn.End())
		if lines > maxFunctionLines && !excused(f, start(fn.Doc, fn), fn.End()) {
			found = append(found, fmt.Sprintf("%s:%d: %s has %d lines: keep it to %d",
				f.path, f.line(fn.Pos()), fn.Name.Name, lines, maxFunctionLines))
		}
	}
	return found
}

func interfaceViolations(f file) []string {
	var found []string
	for _, d := range f.syntax.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			spec := spec.(*ast.TypeSpec)
			i, ok := spec.Type.(*ast.InterfaceType)
			if ok && i.Methods.NumFields() > maxMethods && !excused(f, start(gen.Doc, gen), gen.End()) {
				found = append(found, fmt.Sprintf("%s:%d: %s has %d methods: keep it to %d",
					f.path, f.line(spec.Pos()), spec.Name.Name, i.Methods.NumFields(), maxMethods))
			}
		}
	}
	return found
}

// excused reports whether a comment between the two positions gives a reason.
func excused(f file, from, to token.Pos) bool {
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			reason, ok := strings.CutPrefix(c.Text, overBudget)
			if ok && strings.TrimSpace(reason) != "" && from <= c.Pos() && c.Pos() < to {
				return true
			}
		}
	}
	return false
}

// A sleep is one mention of time.Sleep: handing the function on sleeps as well.
type sleep struct {
	function string
	line     int
}

func sleeps(f file) []sleep {
	var found []sleep
	for _, d := range f.syntax.Decls {
		name := "the file"
		if fn, ok := d.(*ast.FuncDecl); ok {
			name = fn.Name.Name
		}
		ast.Inspect(d, func(n ast.Node) bool {
			if isCallOf(n, "synctest", "Test") {
				// Time is virtual in a bubble, and sleeping is how it passes.
				return false
			}
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
					found = append(found, sleep{name, f.line(s.Pos())})
				}
			}
			return true
		})
	}
	return found
}

// isCallOf reports whether a node calls the function of a package.
func isCallOf(n ast.Node, pkg, function string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != function {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}
