package daemon

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/connectd/connectd/cache/consul/consultest"
)

// TestRotationOnFrozenClientAgent rotates on a fresh client agent whose roots
// route another program has read without an index. That freezes the agent's
// own idea of the root, and only a held query moves it again.
func TestRotationOnFrozenClientAgent(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, consultest.Options{})
	agent := consultest.Start(t, consultest.Options{Join: server})
	readRootsOnce(t, agent)
	agent.RegisterNative(t, "db", 5432)
	agent.RegisterNative(t, "web", 8080)
	d := start(t, newConfig(t, agent.Addr()))
	d.snapshot(t, "db")
	for i := range 5 {
		root := server.RotateRoot(t)
		began := time.Now()
		for _, name := range []string{"db", "web"} {
			consultest.Eventually(t, time.Minute, fmt.Sprintf("rotation %d: leaf of %s", i+1, name), func() error {
				return signedBy(d.snapshot(t, name), root)
			})
		}
		t.Logf("rotation %d: leaves of the new root after %s", i+1, time.Since(began).Round(time.Second))
	}
}

// readRootsOnce does what another program on the host may do.
func readRootsOnce(t *testing.T, agent *consultest.Agent) {
	t.Helper()
	resp, err := http.Get(agent.Addr() + "/v1/agent/connect/ca/roots")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
}

// signedBy checks that a snapshot's leaf was issued by the root with this id,
// and that the snapshot calls that root active.
func signedBy(s snapshotAnswer, root string) error {
	leaf, err := certificate(s.Leaf.CertificatePEM)
	if err != nil {
		return err
	}
	for _, r := range s.Bundle.Roots {
		if r.ID != root {
			continue
		}
		cert, err := certificate(r.PEM)
		if err != nil {
			return err
		}
		if !r.Active || string(cert.SubjectKeyId) != string(leaf.AuthorityKeyId) {
			return fmt.Errorf("leaf %s is not of the active root", s.Leaf.SerialNumber)
		}
		return nil
	}
	return fmt.Errorf("root %s is not in the bundle yet", root)
}

func certificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
