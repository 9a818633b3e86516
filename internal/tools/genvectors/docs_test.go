package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// allHeads returns the head of every case of every file.
func allHeads(t *testing.T) []head {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, vectorsDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out []head
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		type entry struct {
			head
			Cases []head
		}
		var f struct {
			Cases  []entry
			Groups []entry
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, e := range append(f.Cases, f.Groups...) {
			out = append(append(out, e.head), e.Cases...)
		}
	}
	return out
}

// named finds what a document names as code.
var named = regexp.MustCompile("`([^`\n]+)`")

// vectorID tells the ids of vectors from other code.
var vectorID = regexp.MustCompile(`\A(?:id|l4|l7|normalization|document)-[A-Za-z0-9-]+\*?\z`)

// TestDocsIntentionsVectors checks that every vector that docs/intentions.md
// names exists, and that the page mentions every flag.
func TestDocsIntentionsVectors(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(top, "docs", "intentions.md"))
	if err != nil {
		t.Fatal(err)
	}
	heads, mentioned, proofs := allHeads(t), map[string]bool{}, 0
	exists := func(name string) bool {
		prefix, isPattern := strings.CutSuffix(name, "*")
		for _, h := range heads {
			if h.ID == name || isPattern && strings.HasPrefix(h.ID, prefix) {
				return true
			}
		}
		return false
	}
	for _, m := range named.FindAllStringSubmatch(string(raw), -1) {
		mentioned[m[1]] = true
		if !vectorID.MatchString(m[1]) {
			continue
		}
		proofs++
		if !exists(m[1]) {
			t.Errorf("docs/intentions.md names the vector %s, which does not exist", m[1])
		}
	}
	for _, h := range heads {
		for _, flag := range h.Flags {
			if !mentioned[flag] {
				t.Errorf("docs/intentions.md does not mention the flag %s of %s", flag, h.ID)
				mentioned[flag] = true
			}
		}
	}
	t.Logf("%d vectors named, %d cases", proofs, len(heads))
	if proofs < 80 {
		t.Errorf("got %d proofs, want at least 80", proofs)
	}
}
