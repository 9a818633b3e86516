package daemon

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connectd/connectd/cache/consul/consultest"
)

// capture stands between the daemon and the agent and remembers which token
// went where.
type capture struct {
	server *httptest.Server

	mu   sync.Mutex // guards seen
	seen map[string]map[string]bool
}

func newCapture(t *testing.T, agent *consultest.Agent) *capture {
	t.Helper()
	target, err := url.Parse(agent.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{seen: map[string]map[string]bool{}}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		if c.seen[r.URL.Path] == nil {
			c.seen[r.URL.Path] = map[string]bool{}
		}
		c.seen[r.URL.Path][r.Header.Get("X-Consul-Token")] = true
		c.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		c.server.CloseClientConnections()
		c.server.Close()
	})
	return c
}

// tokens returns the path of every request with the tokens that it carried.
func (c *capture) tokens() map[string]map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]map[string]bool{}
	for path, tokens := range c.seen {
		out[path] = map[string]bool{}
		for token := range tokens {
			out[path][token] = true
		}
	}
	return out
}

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// aclMesh is an agent with ACLs, a read token and one token for each service.
type aclMesh struct {
	agent   *consultest.Agent
	capture *capture
	config  Config
	read    string
	signing map[string]string
}

const readRules = `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" } agent_prefix "" { policy = "read" }`

func newACLMesh(t *testing.T, readRules string, services ...string) *aclMesh {
	t.Helper()
	agent := consultest.Start(t, consultest.Options{ACL: true})
	m := &aclMesh{agent: agent, capture: newCapture(t, agent), signing: map[string]string{}}
	m.config = newConfig(t, m.capture.server.URL)
	m.read = agent.CreateToken(t, readRules)
	m.config.Consul.TokenFile = tokenFile(t, m.read)
	for _, name := range services {
		agent.RegisterNative(t, name, 8080)
		m.signing[name] = agent.CreateToken(t, fmt.Sprintf("service %q { policy = \"write\" }", name))
		m.config.Services = append(m.config.Services, ServiceConfig{Name: name, TokenFile: tokenFile(t, m.signing[name])})
	}
	return m
}

const leafPath = "/v1/agent/connect/ca/leaf/"

// TestTokensStayWhereTheyBelong looks at every request that the daemon sends:
// a service's token signs for that service and is seen nowhere else.
func TestTokensStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	m := newACLMesh(t, readRules, "web", "db")
	m.agent.WriteIntentions(t, "db", allow("web"))
	d := start(t, m.config)
	s := d.snapshot(t, "db")
	d.snapshot(t, "web")
	if s.Policy.DefaultAction != "deny" || s.Policy.DefaultOrigin != "acl" {
		t.Errorf("got default %s (%s), want deny (acl)", s.Policy.DefaultAction, s.Policy.DefaultOrigin)
	}
	requests := 0
	for path, tokens := range m.capture.tokens() {
		want := m.read
		if name, leaf := strings.CutPrefix(path, leafPath); leaf {
			want = m.signing[name]
		}
		for token := range tokens {
			requests++
			if token != want {
				t.Errorf("%s was asked with another token than its own", path)
			}
		}
	}
	t.Logf("%d kinds of request, each with its own token only", requests)
}

// TestDeniedServiceTokenConcernsNobodyElse gives one service a token that may
// not sign for it.
func TestDeniedServiceTokenConcernsNobodyElse(t *testing.T) {
	t.Parallel()
	m := newACLMesh(t, readRules, "web", "db")
	m.config.Services[1].TokenFile = tokenFile(t, m.signing["db"])
	d := start(t, m.config)
	d.snapshot(t, "db")
	consultest.Eventually(t, 10*time.Second, "the refusal is shown", func() error {
		resp, err := d.try(http.MethodGet, "/v1/services/web/ready", nil, nil)
		if err != nil {
			return err
		}
		if !strings.Contains(resp.Status, "upstream_refused") || !strings.Contains(resp.Status, "service:write") {
			return fmt.Errorf("got %d %s", resp.StatusCode, resp.Status)
		}
		return nil
	})
	// The file is mended while the daemon runs.
	if err := os.WriteFile(m.config.Services[1].TokenFile, []byte(m.signing["web"]), 0o600); err != nil {
		t.Fatal(err)
	}
	d.snapshot(t, "web")
}

// TestUnreadableNameIsSetAside has a name among the watched that the read
// token may not read; the shared query goes on without it.
func TestUnreadableNameIsSetAside(t *testing.T) {
	t.Parallel()
	m := newACLMesh(t, readRules+` service "hidden" { policy = "read" intentions = "deny" }`, "db", "web")
	m.config.Services = append(m.config.Services, ServiceConfig{Name: "hidden"})
	m.agent.WriteIntentions(t, "db", allow("web"))
	d := start(t, m.config)
	d.snapshot(t, "web")
	id := "spiffe://" + d.snapshot(t, "db").Bundle.TrustDomain + "/ns/default/dc/dc1/svc/web"
	if got := d.authorize(t, id, "db"); !got.Allowed {
		t.Errorf("got %+v", got)
	}
	m.agent.WriteIntentions(t, "db", deny("web"))
	consultest.Eventually(t, 5*time.Second, "a flip beside the hidden name", func() error {
		if got := d.authorize(t, id, "db"); got.Allowed {
			return fmt.Errorf("still allowed")
		}
		return nil
	})
	consultest.Eventually(t, 10*time.Second, "the hidden name is reported", func() error {
		var status struct {
			Problems []struct{ Service, Kind, Message string }
		}
		if _, err := d.try(http.MethodGet, "/v1/status", nil, &status); err != nil {
			return err
		}
		for _, p := range status.Problems {
			if p.Service == "hidden" && p.Kind == "refused" && strings.Contains(p.Message, "intentions:read") {
				return nil
			}
		}
		return fmt.Errorf("problems are %+v", status.Problems)
	})
}

// TestFilteredDiscoveryIsAnError asks for instances that the read token may
// not see.
func TestFilteredDiscoveryIsAnError(t *testing.T) {
	t.Parallel()
	m := newACLMesh(t, `service_prefix "" { policy = "read" }`, "web")
	d := start(t, m.config)
	consultest.Eventually(t, 20*time.Second, "a discovery answer", func() error {
		resp, err := d.try(http.MethodGet, "/v1/discovery/web", nil, nil)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusBadGateway || !strings.Contains(resp.Status, "discovery_filtered") {
			return fmt.Errorf("got %d %s", resp.StatusCode, resp.Status)
		}
		return nil
	})
}
