package consultest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

const stepTimeout = 30 * time.Second

// Client returns a client of the agent, with the management token if there are ACLs. It
// holds no idle connection, so it counts for nothing against connection limits.
func (a *Agent) Client(t testing.TB) *api.Client {
	t.Helper()
	client, err := api.NewClient(&api.Config{
		Address:   a.Addr(),
		Token:     a.ManagementToken,
		Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		t.Fatalf("client of %s: %v", a.NodeName, err)
	}
	return client
}

// RegisterNative registers a mesh-native service on the agent and returns when discovery finds it.
func (a *Agent) RegisterNative(t testing.TB, name string, port int) {
	t.Helper()
	client := a.Client(t)
	err := client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		Name:    name,
		Address: "127.0.0.1",
		Port:    port,
		Connect: &api.AgentServiceConnect{Native: true},
	})
	if err != nil {
		t.Fatalf("registering %s: %v", name, err)
	}
	Eventually(t, stepTimeout, "discovery of "+name, func() error {
		entries, _, err := client.Health().Connect(name, "", true, nil)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if entry.Node.Node == a.NodeName && entry.Service.Port == port {
				return nil
			}
		}
		return fmt.Errorf("not among %d instances", len(entries))
	})
}

// WriteIntentions replaces all intentions of a destination.
func (a *Agent) WriteIntentions(t testing.TB, destination string, sources ...*api.SourceIntention) {
	t.Helper()
	client := a.Client(t)
	Eventually(t, 10*time.Second, "writing intentions of "+destination, func() error {
		_, _, err := client.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{
			Kind:    api.ServiceIntentions,
			Name:    destination,
			Sources: sources,
		}, nil)
		if err != nil && !strings.Contains(err.Error(), upgrading) {
			t.Fatalf("writing intentions of %s: %v", destination, err)
		}
		return err
	})
}

// upgrading is what a leader says of intentions in the first moments of its office.
const upgrading = "read only while being upgraded"

// DeleteIntentions removes all intentions of a destination.
func (a *Agent) DeleteIntentions(t testing.TB, destination string) {
	t.Helper()
	if _, err := a.Client(t).ConfigEntries().Delete(api.ServiceIntentions, destination, nil); err != nil {
		t.Fatalf("deleting intentions of %s: %v", destination, err)
	}
}

// RotateRoot gives the built-in authority a new key and returns the ID of the root that is
// active then. Consul makes the root for that key, and the old root signs it too.
func (a *Agent) RotateRoot(t testing.TB) (activeRootID string) {
	t.Helper()
	client := a.Client(t)
	before := a.roots(t).ActiveRootID
	config, _, err := client.Connect().CAGetConfig(nil)
	if err != nil {
		t.Fatalf("reading the authority's configuration: %v", err)
	}
	config.Config["PrivateKey"] = newKeyPEM(t)
	config.Config["RootCert"] = ""
	if _, err := client.Connect().CASetConfig(config, nil); err != nil {
		t.Fatalf("rotating the root: %v", err)
	}
	Eventually(t, stepTimeout, "rotation of the root", func() error {
		roots, _, err := client.Connect().CARoots(nil)
		if err != nil {
			return err
		}
		if roots.ActiveRootID == before {
			return errors.New("the old root is active")
		}
		activeRootID = roots.ActiveRootID
		return nil
	})
	return activeRootID
}

func newKeyPEM(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// CreateToken makes a policy of the rules and returns the secret of a token that has only
// that. It returns when the agent accepts the token.
func (a *Agent) CreateToken(t testing.TB, rules string) (secret string) {
	t.Helper()
	client := a.Client(t)
	policy, _, err := client.ACL().PolicyCreate(&api.ACLPolicy{
		Name:  fmt.Sprintf("consultest-%d", time.Now().UnixNano()),
		Rules: rules,
	}, nil)
	if err != nil {
		t.Fatalf("creating a policy: %v", err)
	}
	token, _, err := client.ACL().TokenCreate(&api.ACLToken{
		Policies: []*api.ACLLink{{ID: policy.ID}},
	}, nil)
	if err != nil {
		t.Fatalf("creating a token: %v", err)
	}
	Eventually(t, stepTimeout, "a new token", func() error {
		_, _, err := client.ACL().TokenReadSelf(&api.QueryOptions{Token: token.SecretID})
		return err
	})
	return token.SecretID
}

// TrustDomain is the host part of all SPIFFE IDs of the agent's cluster.
func (a *Agent) TrustDomain(t testing.TB) string {
	t.Helper()
	return a.roots(t).TrustDomain
}

// roots are read from the servers: the agent's own copy may stop following them.
func (a *Agent) roots(t testing.TB) *api.CARootList {
	t.Helper()
	roots, _, err := a.Client(t).Connect().CARoots(nil)
	if err != nil {
		t.Fatalf("reading roots: %v", err)
	}
	return roots
}
