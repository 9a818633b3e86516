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
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
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
			dir := t.TempDir()
			program := filepath.Join(dir, "main.go")
			if err := os.WriteFile(program, []byte(strings.Replace(string(text), sdk, ours, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			// The overlay puts the program into this module without a file here.
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
				filepath.Join(here, "native"+name, "main.go"): program,
			}})
			if err != nil {
				t.Fatal(err)
			}
			plan := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(plan, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", plan, "-o", filepath.Join(dir, "program"), "./native"+name)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
