package treetest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// link finds the target of a Markdown link to a file, without its fragment.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)\s]*)?\)`)

func TestDocsLinks(t *testing.T) {
	top := root(t)
	for _, path := range committed(t, top) {
		if filepath.Ext(path) != ".md" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(top, path))
		if err != nil {
			continue // Deleted, and not yet committed so.
		}
		for _, m := range link.FindAllStringSubmatch(string(content), -1) {
			target := filepath.Join(top, filepath.Dir(path), m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, m[1])
			}
		}
	}
}

func TestDocsLinkPattern(t *testing.T) {
	var got []string
	for _, m := range link.FindAllStringSubmatch("[a](docs/a.md#b) [c](https://x.org/y) [d](#e) [f](f.md)", -1) {
		got = append(got, m[1])
	}
	if want := []string{"docs/a.md", "f.md"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
