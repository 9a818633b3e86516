package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/cache/consul/consultest"
)

// instance is a daemon that runs inside the test.
type instance struct {
	config Config
	client *http.Client
	cancel context.CancelFunc
	ended  chan error
	log    *bytes.Buffer
}

// newConfig is a configuration for one test: private directories, everything
// allowed for the user who runs the test.
func newConfig(t testing.TB, consulAddress string) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "connectd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := DefaultConfig()
	c.Consul.Address = consulAddress
	c.Consul.SignaturesPerSecond = 40
	c.Socket.Path = filepath.Join(dir, "s")
	c.StoreDir = filepath.Join(dir, "store")
	c.Services = []ServiceConfig{{Name: "*", AllowAnyService: true, Allow: []AllowConfig{
		{User: strconv.Itoa(os.Geteuid())},
	}}}
	return c
}

// start runs a daemon and waits until it listens.
func start(t testing.TB, c Config) *instance {
	t.Helper()
	d := &instance{config: c, client: unixClient(c.Socket.Path), ended: make(chan error, 1), log: &bytes.Buffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	ready := make(chan struct{})
	logger := hclog.New(&hclog.LoggerOptions{Name: "connectd", Level: hclog.Debug, Output: d.log})
	go func() { d.ended <- Run(ctx, c, Options{Logger: logger, Ready: func() { close(ready) }}) }()
	select {
	case <-ready:
	case err := <-d.ended:
		t.Fatalf("daemon did not start: %v", err)
	}
	t.Cleanup(func() {
		d.stop(t)
		if t.Failed() {
			t.Logf("daemon's log:\n%s", d.log)
		}
	})
	return d
}

func (d *instance) stop(t testing.TB) {
	t.Helper()
	d.cancel()
	select {
	case err := <-d.ended:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("daemon ended with %v", err)
		}
		d.ended <- nil
	case <-time.After(20 * time.Second):
		t.Error("daemon did not stop within 20 s")
	}
	d.client.CloseIdleConnections()
}

func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

// get reads a path into out and returns the response; the status may be any.
func (d *instance) get(t testing.TB, path string, out any) *http.Response {
	t.Helper()
	resp, err := d.try(http.MethodGet, path, nil, out)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return resp
}

func (d *instance) try(method, path string, body, out any) (*http.Response, error) {
	var sent io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, "http://connectd"+path, sent)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if out != nil && resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(raw, out); err != nil {
			return nil, fmt.Errorf("%s: %w", raw, err)
		}
	}
	if resp.StatusCode != http.StatusOK {
		resp.Status = strings.TrimSpace(string(raw))
	}
	return resp, nil
}

// snapshotAnswer is what tests look at in a snapshot.
type snapshotAnswer struct {
	AgeSeconds float64 `json:"age_seconds"`
	Freshness  string  `json:"freshness"`
	Store      string  `json:"store"`
	Index      uint64  `json:"index"`
	Leaf       *struct {
		Index          uint64 `json:"index"`
		SPIFFEID       string `json:"spiffe_id"`
		SerialNumber   string `json:"serial_number"`
		CertificatePEM string `json:"certificate_pem"`
		PrivateKeyPEM  string `json:"private_key_pem"`
	} `json:"leaf"`
	LeafError string `json:"leaf_error"`
	Bundle    struct {
		Index       uint64 `json:"index"`
		TrustDomain string `json:"trust_domain"`
		Roots       []struct {
			ID     string `json:"id"`
			Active bool   `json:"active"`
			PEM    string `json:"certificate_pem"`
		} `json:"roots"`
	} `json:"bundle"`
	Policy struct {
		Index         uint64 `json:"index"`
		DefaultAction string `json:"default_action"`
		DefaultOrigin string `json:"default_origin"`
		Rules         []struct {
			Action string `json:"action"`
			Source struct {
				Name string `json:"name"`
			} `json:"source"`
		} `json:"rules"`
	} `json:"policy"`
}

// snapshot reads a service's snapshot, waiting for the first one.
func (d *instance) snapshot(t testing.TB, service string) snapshotAnswer {
	t.Helper()
	var s snapshotAnswer
	consultest.Eventually(t, 40*time.Second, "snapshot of "+service, func() error {
		resp, err := d.try(http.MethodGet, "/v1/services/"+service+"/snapshot", nil, &s)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return err
	})
	return s
}

type decisionAnswer struct {
	Decision string `json:"decision"`
	Allowed  bool   `json:"allowed"`
	Reason   string `json:"reason"`
	Via      string `json:"via"`
	Matched  *struct {
		Rule string `json:"rule"`
	} `json:"matched"`
}

func (d *instance) authorize(t testing.TB, source, destination string) decisionAnswer {
	t.Helper()
	var out decisionAnswer
	body := map[string]string{"source": source, "destination": destination}
	resp, err := d.try(http.MethodPost, "/v1/authorize", body, &out)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("authorize: %v %v", err, resp)
	}
	return out
}
