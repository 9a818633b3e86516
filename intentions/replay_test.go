package intentions

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// recordedWorld is one scenario of consul-authorize.json.
type recordedWorld struct {
	Name, Variant string

	Intentions []json.RawMessage
	Cases      []struct {
		ID, Body, Resp, Token string

		Status int
	}
}

// matching gives the rows that Consul would list for a destination.
func (w *recordedWorld) matching(target string) []byte {
	rows := []json.RawMessage{}
	for _, raw := range w.Intentions {
		var x struct{ DestinationName string }
		if json.Unmarshal(raw, &x) == nil && (x.DestinationName == Wildcard || strings.EqualFold(x.DestinationName, target)) {
			rows = append(rows, raw)
		}
	}
	out, _ := json.Marshal(rows)
	return out
}

// TestRecordedVerdicts replays what running agents answered about a connection,
// straight from the table.
func TestRecordedVerdicts(t *testing.T) {
	raw, err := os.ReadFile("../clients/testvectors/consul-authorize.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Variants map[string]struct {
			DefaultAllow bool   `json:"default_allow"`
			TrustDomain  string `json:"trust_domain"`
		}
		Scenarios []recordedWorld
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	replayed := 0
	for i := range file.Scenarios {
		w := &file.Scenarios[i]
		fallback := file.Variants[w.Variant]
		for _, c := range w.Cases {
			var asked struct{ Target, ClientCertURI string }
			var answered struct {
				Authorized bool
				Reason     string
			}
			if c.Status != 200 || c.Token != "" || json.NewDecoder(strings.NewReader(c.Body)).Decode(&asked) != nil ||
				json.Unmarshal([]byte(c.Resp), &answered) != nil {
				continue
			}
			list, err := ParseIntentions(w.matching(asked.Target))
			if err != nil {
				t.Fatalf("%s: %v", c.ID, err)
			}
			id, err := ParseURI(asked.ClientCertURI)
			if err != nil {
				t.Errorf("%s: Consul accepts %q: %v", c.ID, asked.ClientCertURI, err)
				continue
			}
			p, rowOfRule := NewPolicy(NewService(asked.Target), fallback.TrustDomain, DefaultAction{Allow: fallback.DefaultAllow}, list)
			got, reason := fallback.DefaultAllow, "Default"
			if n := Compile(p).Match(id.Service); n > 0 {
				x := &list[rowOfRule[n-1]]
				got, reason = x.ConsulAllows(), x.String()
			}
			if got != answered.Authorized || !strings.Contains(answered.Reason, reason) {
				t.Errorf("%s: got %v because of %q, Consul says %v: %s", c.ID, got, reason, answered.Authorized, answered.Reason)
			}
			replayed++
		}
	}
	if replayed < 900 {
		t.Errorf("replayed %d answers, want more than 900", replayed)
	}
}
