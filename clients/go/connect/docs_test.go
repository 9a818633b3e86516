package connect

import (
	"os"
	"strings"
	"testing"
)

// TestDocsPrograms compiles the programs of the client's page.
func TestDocsPrograms(t *testing.T) {
	text, err := os.ReadFile("../../../docs/clients/go.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := 0
	for i, block := range strings.Split(string(text), "```go\n") {
		program, _, _ := strings.Cut(block, "```")
		if i == 0 || !strings.HasPrefix(program, "package main") {
			continue
		}
		programs++
		compile(t, "docs"+string(rune('a'+programs)), program)
	}
	if programs != 3 {
		t.Errorf("got %d programs, want 3", programs)
	}
}
