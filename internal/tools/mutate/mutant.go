package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// mutant is one change: the bytes from start to end of a file are replaced.
type mutant struct {
	file, function string
	line           int
	start, end     int
	old, new       string
	// nth tells apart changes of a function that read alike, from 1.
	nth int
}

func (m mutant) apply(content []byte) []byte {
	return []byte(string(content[:m.start]) + m.new + string(content[m.end:]))
}

// key names a mutant in a way that outlives changes elsewhere in the file.
func (m mutant) key() string {
	number := ""
	if m.nth > 1 {
		number = fmt.Sprintf(" (%d)", m.nth)
	}
	return fmt.Sprintf("%s %s: %s -> %s%s", m.file, m.function, flat(m.old), flat(m.new), number)
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d %s", m.file, m.line, strings.TrimPrefix(m.key(), m.file+" "))
}

// flat writes code on one line.
func flat(code string) string {
	if code == "" {
		return "nothing"
	}
	return strings.Join(strings.Fields(code), " ")
}

// finder collects the mutants of a package.
type finder struct {
	set    *token.FileSet
	source []byte
	file   string
	// function and signature are those being looked at.
	function  string
	signature *ast.FuncType
	// types has what each type of the package is made of.
	types map[string]ast.Expr
	found []mutant
	seen  map[string]int
}

func findMutants(dir string, files []string) ([]mutant, error) {
	f := &finder{set: token.NewFileSet(), types: map[string]ast.Expr{}, seen: map[string]int{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	parsed := map[string]*ast.File{}
	for _, path := range names {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(f.set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		parsed[filepath.Base(path)] = file
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				f.types[spec.Name.Name] = spec.Type
			}
			return true
		})
	}
	for _, name := range files {
		if parsed[name] == nil {
			return nil, fmt.Errorf("no file %q in %s", name, dir)
		}
		if f.source, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		f.file = name
		f.declarations(parsed[name])
	}
	return f.found, nil
}

func (f *finder) declarations(file *ast.File) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			f.function, f.signature = d.Name.Name, d.Type
			if d.Body != nil {
				ast.Inspect(d.Body, f.visit)
			}
		case *ast.GenDecl:
			if d.Tok == token.CONST || d.Tok == token.VAR {
				f.function, f.signature = d.Tok.String(), nil
				ast.Inspect(d, f.visit)
			}
		}
	}
}

// add notes a change. The text of the whole node around it goes into its name.
func (f *finder) add(around ast.Node, start, end token.Pos, replacement string) {
	at := func(p token.Pos) int { return f.set.Position(p).Offset }
	from, to := at(around.Pos()), at(around.End())
	m := mutant{
		file: f.file, function: f.function, line: f.set.Position(start).Line, start: from, end: to,
		old: string(f.source[from:to]),
		new: string(f.source[from:at(start)]) + replacement + string(f.source[at(end):to]),
	}
	if flat(m.old) == flat(m.new) {
		return
	}
	key := m.key()
	f.seen[key]++
	m.nth = f.seen[key]
	f.found = append(f.found, m)
}

func (f *finder) replace(n ast.Node, replacement string) { f.add(n, n.Pos(), n.End(), replacement) }

func (f *finder) text(n ast.Node) string {
	return string(f.source[f.set.Position(n.Pos()).Offset:f.set.Position(n.End()).Offset])
}
