package connect

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNativePrograms compiles what Consul's page on native integration in Go
// shows, with the import of the SDK's package changed and nothing else.
func TestNativePrograms(t *testing.T) {
	programs, err := filepath.Glob("testdata/native/*.go")
	if err != nil || len(programs) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	for _, path := range programs {
		name := strings.TrimSuffix(filepath.Base(path), ".go")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			const sdk, ours = `"github.com/hashicorp/consul/connect"`, `"github.com/connectd/connectd/clients/go/connect"`
			if strings.Count(string(text), sdk) != 1 {
				t.Fatalf("%s does not import the SDK once", path)
			}
			compile(t, name, strings.Replace(string(text), sdk, ours, 1))
		})
	}
}

// compile builds a program inside of this module. The overlay puts it there
// without a file in the tree.
func compile(t *testing.T, name, text string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, plan := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "native"+name, "main.go"): program}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{program: []byte(text), plan: overlay} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", plan, "-o", filepath.Join(dir, "program"), "./native"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}
