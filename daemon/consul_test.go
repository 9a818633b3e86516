package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/connectd/connectd/cache/consul/consultest"
)

func allow(name string) *api.SourceIntention {
	return &api.SourceIntention{Name: name, Action: api.IntentionActionAllow}
}

func deny(name string) *api.SourceIntention {
	return &api.SourceIntention{Name: name, Action: api.IntentionActionDeny}
}

func TestSnapshotFromConsul(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{})
	agent.RegisterNative(t, "db", 5432)
	agent.WriteIntentions(t, "db", allow("web"), deny("*"))
	d := start(t, newConfig(t, agent.Addr()))

	s := d.snapshot(t, "db")
	if s.Leaf == nil || s.Leaf.PrivateKeyPEM == "" || s.Freshness != "fresh" || s.Policy.DefaultAction != "allow" {
		t.Errorf("got %+v", s)
	}
	web := fmt.Sprintf("spiffe://%s/ns/default/dc/dc1/svc/web", s.Bundle.TrustDomain)
	if got := d.authorize(t, web, "db"); !got.Allowed || got.Reason != "intention" {
		t.Errorf("web: got %+v", got)
	}
	other := fmt.Sprintf("spiffe://%s/ns/default/dc/dc1/svc/other", s.Bundle.TrustDomain)
	if got := d.authorize(t, other, "db"); got.Allowed {
		t.Errorf("other: got %+v", got)
	}
}

// TestAuthorizeFollowsEveryFlip flips one intention twenty times while
// something keeps asking. connectd follows every flip within a second; the
// agent's own endpoint, asked in the same way, stops following after a few
// (hashicorp/consul#23806), which is documented here and not required.
func TestAuthorizeFollowsEveryFlip(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	d := start(t, newConfig(t, agent.Addr()))
	web := "spiffe://" + agent.TrustDomain(t) + "/ns/default/dc/dc1/svc/web"
	client := agent.Client(t)
	followed, byAgent := 0, 0
	for i := range 20 {
		want := i%2 == 0
		source := deny("web")
		if want {
			source = allow("web")
		}
		agent.WriteIntentions(t, "db", source)
		began := time.Now()
		consultest.Eventually(t, 5*time.Second, fmt.Sprintf("flip %d", i), func() error {
			if got := d.authorize(t, web, "db"); got.Allowed != want || got.Reason != "intention" {
				return fmt.Errorf("got %+v, want allowed=%v", got, want)
			}
			return nil
		})
		if took := time.Since(began); took > time.Second {
			t.Errorf("flip %d took %s", i, took)
		}
		followed++
		if agentFollows(client, web, want) {
			byAgent++
		}
	}
	t.Logf("connectd followed %d of 20 flips; the agent's own authorize %d", followed, byAgent)
}

// agentFollows asks the agent's own endpoint for a moment.
func agentFollows(client *api.Client, source string, want bool) bool {
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); {
		got, err := client.Agent().ConnectAuthorize(&api.AgentAuthorizeParams{Target: "db", ClientCertURI: source})
		if err == nil && got.Authorized == want {
			return true
		}
	}
	return false
}

func TestLiveAuthorize(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{})
	agent.RegisterNative(t, "web", 8080)
	agent.WriteIntentions(t, "far", allow("web"))
	d := start(t, newConfig(t, agent.Addr()))
	d.snapshot(t, "web")
	web := "spiffe://" + agent.TrustDomain(t) + "/ns/default/dc/dc1/svc/web"
	var got decisionAnswer
	resp, err := d.try("POST", "/v1/authorize?live", map[string]string{"source": web, "destination": "far"}, &got)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(err, resp)
	}
	if !got.Allowed || got.Via != "live" {
		t.Errorf("got %+v, want allowed via live", got)
	}
	var services struct {
		Services []struct {
			Service struct{ Name string } `json:"service"`
		} `json:"services"`
	}
	d.get(t, "/v1/services", &services)
	for _, s := range services.Services {
		if s.Service.Name == "far" {
			t.Error("a live question made the destination watched")
		}
	}
}
