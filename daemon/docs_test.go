package daemon

import (
	"os"
	"strings"
	"testing"
)

// TestDocsConfigurationExamples reads every configuration that the documents
// show; examples of Consul's own rules are told apart by their first word.
func TestDocsConfigurationExamples(t *testing.T) {
	examples := 0
	for _, file := range []string{"../README.md", "../docs/configuration.md", "../docs/consul-sdk.md"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(raw), "```hcl\n")[1:] {
			text, _, _ := strings.Cut(part, "```")
			if strings.HasPrefix(text, "service_prefix") {
				continue
			}
			examples++
			if _, err := ParseConfig(file, []byte(text)); err != nil {
				t.Errorf("example %d of %s: %v", i+1, file, err)
			}
		}
	}
	if examples < 3 {
		t.Errorf("found %d examples, want at least 3", examples)
	}
}
