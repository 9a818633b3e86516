package entries

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/connectd/connectd/cache/consul/consultest"
)

// stricter are the cases of refused that Consul takes: it guesses, drops or
// leaves the error to Envoy.
var stricter = []string{"other kind", "action twice", "legacy", "bad path regex", "bad header regex"}

// TestConsulAgrees writes the same files with Consul's own command.
func TestConsulAgrees(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{})
	write := func(file, text string) error {
		path := filepath.Join(t.TempDir(), file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(consultest.Binary(t), "config", "write", "-http-addr="+agent.Addr(), path).Run()
	}
	if err := write("global.hcl", `Kind = "proxy-defaults" Name = "global" Config { protocol = "http" }`); err != nil {
		t.Fatal(err)
	}
	for name, text := range everyForm {
		// Only an agent's own configuration can hold a bootstrap list.
		if strings.HasPrefix(name, "bootstrap") {
			continue
		}
		if err := write(name, text); err != nil {
			t.Errorf("%s: Consul refuses it: %v", name, err)
		}
		e := mustParse(t, text)[0]
		got, err := Encode(e.Rows(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if want := matchRows(t, agent, "db"); withoutIndexes(got) != want {
			t.Errorf("%s: got rows\n%s\nwant\n%s", name, withoutIndexes(got), want)
		}
	}
	for _, c := range refused {
		if strings.HasPrefix(c.file, "s.") {
			continue
		}
		err := write(c.fileAndText())
		if accepts := err == nil; accepts != slices.Contains(stricter, c.name) {
			t.Errorf("%s: Consul accepts it: %v", c.name, accepts)
		}
	}
}

// matchRows asks Consul for the rows of a destination.
func matchRows(t *testing.T, agent *consultest.Agent, destination string) string {
	t.Helper()
	resp, err := http.Get(agent.Addr() + "/v1/connect/intentions/match?by=destination&name=" + destination)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	var rows map[string]json.RawMessage
	if err := json.Unmarshal(body, &rows); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return withoutIndexes(rows[destination])
}

// withoutIndexes writes rows on one line, with all indexes 0.
func withoutIndexes(raw json.RawMessage) string {
	compact, _ := json.Marshal(raw)
	return regexp.MustCompile(`(CreateIndex|ModifyIndex)":\d+`).ReplaceAllString(string(compact), `$1":0`)
}
