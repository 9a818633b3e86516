package daemon

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/cache/consul/consultest"
)

// startDev runs a daemon on the development authority with a store that stays.
func startDev(t *testing.T, c Config) *instance {
	t.Helper()
	authority, err := newAuthority(DevOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d := &instance{config: c, client: unixClient(c.Socket.Path), ended: make(chan error, 1), log: &bytes.Buffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	ready := make(chan struct{})
	go func() {
		d.ended <- run(ctx, c, Options{Logger: hclog.NewNullLogger(), Ready: func() { close(ready) }}, parts{
			source: authority, name: "development authority", settle: untilReady,
			admission: newAdmission(ownUser(uint32(os.Geteuid())), nil, hclog.NewNullLogger()),
		})
	}()
	select {
	case <-ready:
	case err := <-d.ended:
		t.Fatalf("daemon did not start: %v", err)
	}
	return d
}

type storeStatus struct {
	State    string `json:"state"`
	Store    string `json:"store"`
	StoreKey string `json:"store_key"`
	Problems []struct {
		Watch   string `json:"watch"`
		Message string `json:"message"`
	} `json:"problems"`
}

// wantStore waits until the store is in a state.
func (d *instance) wantStore(t *testing.T, want string) storeStatus {
	t.Helper()
	var s storeStatus
	consultest.Eventually(t, 10*time.Second, "store "+want, func() error {
		if _, err := d.try(http.MethodGet, "/v1/status", nil, &s); err != nil {
			return err
		}
		if s.Store != want {
			return errors.New("store is " + s.Store)
		}
		return nil
	})
	return s
}

// TestStoreWithTheWrongKey starts on a store that it cannot read: it serves
// from memory, says why, and leaves the store for the right key.
func TestStoreWithTheWrongKey(t *testing.T) {
	c := newConfig(t, "")
	c.StoreKeyFile = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(c.StoreKeyFile, []byte(strings.Repeat("A", 43)+"=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := startDev(t, c)
	if got := first.wantStore(t, "ok"); got.StoreKey != "file" || got.State != "ok" {
		t.Errorf("got %+v, want a store that is ok, with its key in a file", got)
	}
	first.stop(t)
	before, err := os.ReadFile(filepath.Join(c.StoreDir, "connectd.db"))
	if err != nil {
		t.Fatal(err)
	}

	wrong := c
	wrong.StoreKeyFile = filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(wrong.StoreKeyFile, []byte("B"+strings.Repeat("A", 42)+"=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := startDev(t, wrong)
	got := second.wantStore(t, "degraded")
	if got.State != "degraded" || len(got.Problems) != 1 || got.Problems[0].Watch != "store" ||
		!strings.Contains(got.Problems[0].Message, "the store's key is missing or wrong") {
		t.Errorf("got %+v, want the cause", got)
	}
	if s := second.snapshot(t, "web"); s.Leaf == nil || s.Store != "degraded" {
		t.Errorf("got %+v, want a snapshot from memory", s)
	}
	second.stop(t)
	after, err := os.ReadFile(filepath.Join(c.StoreDir, "connectd.db"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a store that could not be read was changed, or %v", err)
	}
	found, err := VerifyStore(c)
	if err != nil || len(found) != 1 || found[0].Err != nil || !found[0].Sealed || found[0].Records == 0 {
		t.Errorf("with the right key: got %+v, %v", found, err)
	}
}

// TestStoreComesBack takes the directory away and gives it back:
// serving goes on, and the store recovers without a restart.
func TestStoreComesBack(t *testing.T) {
	c := newConfig(t, "")
	d := startDev(t, c)
	defer d.stop(t)
	d.wantStore(t, "ok")
	if err := os.Rename(c.StoreDir, c.StoreDir+".away"); err != nil {
		t.Fatal(err)
	}
	// A name that nobody asked for yet has to be written.
	if s := d.snapshot(t, "newcomer"); s.Leaf == nil {
		t.Errorf("got %+v, want a leaf", s)
	}
	d.wantStore(t, "degraded")
	if err := os.Rename(c.StoreDir+".away", c.StoreDir); err != nil {
		t.Fatal(err)
	}
	d.wantStore(t, "ok")
}

func TestCheckLooksAtTheKey(t *testing.T) {
	c := newConfig(t, "http://127.0.0.1:8500")
	c.StoreKeyFile = filepath.Join(t.TempDir(), "gone")
	if err := Check(c); err == nil || !strings.Contains(err.Error(), c.StoreKeyFile) {
		t.Errorf("got %v, want the file that is missing", err)
	}
}
