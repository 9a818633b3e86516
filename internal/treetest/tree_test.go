package treetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A file is one parsed Go file. Its package is the directory as a pattern writes it.
type file struct {
	path, pkg string
	set       *token.FileSet
	syntax    *ast.File
}

// A tree is every Go file of the repository, for every platform. It is read here rather
// than asked of `go list`, because a cached test result only knows what the test itself opened.
type tree []file

func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// lines returns how many lines a node covers.
func (f file) lines(from, to token.Pos) int { return f.line(to) - f.line(from) + 1 }

func (f file) line(pos token.Pos) int { return f.set.Position(pos).Line }

// root returns the top of the repository: tests run in the directory of their package.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("this package has moved: %v", err)
	}
	return dir
}

func loadTree(t *testing.T) tree {
	t.Helper()
	top := root(t)
	var files tree
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != top && ignored(d.Name()):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || ignored(d.Name()):
			return nil
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parse(filepath.ToSlash(rel), content)
		files = append(files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// ignored names what the go command passes over, and what other tools install.
func ignored(name string) bool {
	return name[0] == '.' || name[0] == '_' || name == "testdata" || name == "node_modules"
}

func parse(path string, content []byte) (file, error) {
	f := file{path: path, pkg: "./" + strings.TrimSuffix(filepath.ToSlash(filepath.Dir(path)), "/"), set: token.NewFileSet()}
	var err error
	f.syntax, err = parser.ParseFile(f.set, path, content, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

// graph returns what non-test files import.
func (files tree) graph() graph {
	g := graph{}
	for _, f := range files {
		if f.isTest() {
			continue
		}
		for _, spec := range f.syntax.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				panic(err) // The parser accepted it.
			}
			if rest, ok := strings.CutPrefix(path, module+"/"); ok {
				path = "./" + rest
			}
			if !slices.Contains(g[f.pkg], path) {
				g[f.pkg] = append(g[f.pkg], path)
			}
		}
		if g[f.pkg] == nil {
			g[f.pkg] = []string{}
		}
	}
	return g
}

// packages returns the files of each package, in order of path.
func (files tree) packages() map[string]tree {
	m := map[string]tree{}
	for _, f := range files {
		m[f.pkg] = append(m[f.pkg], f)
	}
	return m
}
