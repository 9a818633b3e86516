package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const top = "../../.."

// TestVectorsAreGenerated compares the committed files with what the
// generator gives now.
func TestVectorsAreGenerated(t *testing.T) {
	files, err := generate(top)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sortedKeys(files) {
		got, err := os.ReadFile(filepath.Join(top, vectorsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, files[name]) {
			t.Errorf("%s is not what the generator gives: go run ./internal/tools/genvectors", name)
		}
	}
}

// schemaBase is what the schemas call the top of the repository.
const schemaBase = "https://github.com/connectd/connectd/"

// compileSchema compiles a schema of the repository with all that it refers to.
func compileSchema(t *testing.T, path string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	for _, p := range []string{path, "clients/testvectors/common.schema.json", "docs/policy.schema.json"} {
		if err := c.AddResource(schemaBase+p, readJSON(t, p)); err != nil && !strings.Contains(err.Error(), "exists") {
			t.Fatal(err)
		}
	}
	s, err := c.Compile(schemaBase + path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readJSON(t *testing.T, path string) any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

func TestVectorsFollowTheirSchemas(t *testing.T) {
	for _, name := range []string{"spiffe-ids", "l4", "l7", "normalization", "documents"} {
		t.Run(name, func(t *testing.T) {
			s := compileSchema(t, vectorsDir+"/"+name+".schema.json")
			if err := s.Validate(readJSON(t, vectorsDir+"/"+name+".json")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVectorsAreDistinct also counts: a file that lost its cases would still
// follow its schema.
func TestVectorsAreDistinct(t *testing.T) {
	atLeast := map[string]int{"spiffe-ids": 250, "l4": 700, "l7": 900, "normalization": 400, "documents": 150}
	seen, total := map[string]bool{}, 0
	for _, name := range sortedKeys(atLeast) {
		raw, err := os.ReadFile(filepath.Join(top, vectorsDir, name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		type entry struct {
			ID    string
			Cases []struct{ ID string }
		}
		var f struct {
			Count  int
			Cases  []entry
			Groups []entry
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatal(err)
		}
		n := len(f.Cases)
		for _, e := range append(f.Cases, f.Groups...) {
			for _, c := range append(e.Cases, struct{ ID string }{e.ID}) {
				if c.ID != "" && seen[c.ID] {
					t.Errorf("%s: the id %s is used twice", name, c.ID)
				}
				seen[c.ID] = true
			}
		}
		for _, g := range f.Groups {
			n += len(g.Cases)
		}
		if n != f.Count || n < atLeast[name] {
			t.Errorf("%s: got %d cases, want the %d that it says and at least %d", name, n, f.Count, atLeast[name])
		}
		total += n
		t.Logf("%s: %d", name, n)
	}
	t.Logf("%d cases", total)
}
