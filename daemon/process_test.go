package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/cache/consul/consultest"
)

// envProcess makes the test binary be a daemon, so that it can be killed.
const envProcess = "CONNECTD_TEST_DAEMON"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == VerifyCommand {
		os.Exit(VerifyMain(os.Args[2:]))
	}
	if text := os.Getenv(envProcess); text != "" {
		os.Exit(beDaemon(text))
	}
	os.Exit(m.Run())
}

func beDaemon(text string) int {
	var c Config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: os.Stderr})
	if err := Run(ctx, c, Options{Logger: logger, Ready: func() { fmt.Println("ready") }}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a daemon in a process of its own.
type process struct {
	*instance
	cmd *exec.Cmd
}

// spawn starts a daemon process and waits until it listens.
func spawn(t *testing.T, c Config) *process {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envProcess+"="+string(text))
	log, err := os.CreateTemp(t.TempDir(), "daemon")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{instance: &instance{config: c, client: unixClient(c.Socket.Path)}, cmd: cmd}
	t.Cleanup(func() {
		p.kill(t)
		if t.Failed() {
			raw, _ := os.ReadFile(log.Name())
			t.Logf("daemon's log:\n%s", raw)
		}
	})
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatalf("daemon did not start: %v", err)
	}
	return p
}

// kill ends the process with SIGKILL, as a crash would.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_ = p.cmd.Wait()
	p.client.CloseIdleConnections()
}

// durable waits until a snapshot is acknowledged: published with the store ok.
func (d *instance) durable(t *testing.T, service string) snapshotAnswer {
	t.Helper()
	var s snapshotAnswer
	consultest.Eventually(t, 10*time.Second, "durable snapshot of "+service, func() error {
		if s = d.snapshot(t, service); s.Store != "ok" {
			return fmt.Errorf("store is %s", s.Store)
		}
		return nil
	})
	return s
}

// TestKilledThenConsulAway is the case for which the store exists: the first
// request after a crash, with Consul gone, is served from disk.
func TestKilledThenConsulAway(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	agent.RegisterNative(t, "db", 5432)
	agent.WriteIntentions(t, "db", allow("web"), deny("*"))
	c := newConfig(t, agent.Addr())
	first := spawn(t, c)
	before := first.durable(t, "db")

	first.kill(t)
	agent.Stop()
	second := spawn(t, c)

	var after snapshotAnswer
	resp, err := second.try("GET", "/v1/services/db/snapshot", nil, &after)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("first request: %v %v", err, resp)
	}
	if after.Leaf == nil || after.Leaf.SerialNumber != before.Leaf.SerialNumber || after.Index != before.Index {
		t.Errorf("got leaf %+v at index %d, want serial %s at %d", after.Leaf, after.Index, before.Leaf.SerialNumber, before.Index)
	}
	td := before.Bundle.TrustDomain
	for source, want := range map[string]bool{"web": true, "other": false} {
		id := "spiffe://" + td + "/ns/default/dc/dc1/svc/" + source
		if got := second.authorize(t, id, "db"); got.Allowed != want || got.Reason != "intention" {
			t.Errorf("%s: got %+v, want allowed=%v", source, got, want)
		}
	}
}

// TestConsulAwayAndBack stops Consul under a running daemon: nothing is lost,
// everything becomes fresh again, and no leaf is signed again.
func TestConsulAwayAndBack(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	for _, name := range []string{"db", "web"} {
		agent.RegisterNative(t, name, 5432)
	}
	agent.WriteIntentions(t, "db", allow("web"))
	d := start(t, newConfig(t, agent.Addr()))
	before := map[string]snapshotAnswer{"db": d.snapshot(t, "db"), "web": d.snapshot(t, "web")}

	agent.Stop()
	consultest.Eventually(t, 30*time.Second, "the daemon notices", func() error {
		return d.wantState("degraded")
	})
	web := "spiffe://" + before["db"].Bundle.TrustDomain + "/ns/default/dc/dc1/svc/web"
	if got := d.authorize(t, web, "db"); !got.Allowed {
		t.Errorf("Consul away: got %+v", got)
	}

	agent.Start()
	consultest.Eventually(t, 60*time.Second, "everything is well again", func() error {
		return d.wantState("ok")
	})
	agent.WriteIntentions(t, "db", deny("web"))
	consultest.Eventually(t, 10*time.Second, "a change after the outage", func() error {
		if got := d.authorize(t, web, "db"); got.Allowed {
			return errors.New("still allowed")
		}
		return nil
	})
	for name, old := range before {
		if now := d.snapshot(t, name); now.Leaf.SerialNumber != old.Leaf.SerialNumber {
			t.Errorf("%s: leaf %s was signed again as %s", name, old.Leaf.SerialNumber, now.Leaf.SerialNumber)
		}
	}
}

func (d *instance) wantState(want string) error {
	var status struct {
		State    string `json:"state"`
		Problems []struct {
			Watch, Message string
		} `json:"problems"`
	}
	if _, err := d.try("GET", "/v1/status", nil, &status); err != nil {
		return err
	}
	if status.State != want {
		return fmt.Errorf("state is %s, want %s: %+v", status.State, want, status.Problems)
	}
	return nil
}

// TestIndexesContinue restarts the daemon, and then restarts it without its
// store: indexes grow, and whoever waits with an old one is answered.
func TestIndexesContinue(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	agent.RegisterNative(t, "db", 5432)
	c := newConfig(t, agent.Addr())
	first := spawn(t, c)
	one := first.durable(t, "db")
	first.kill(t)

	second := spawn(t, c)
	if got := second.snapshot(t, "db"); got.Index != one.Index {
		t.Errorf("after a restart: got index %d, want %d for the same content", got.Index, one.Index)
	}
	answered := make(chan snapshotAnswer, 1)
	go func() {
		var s snapshotAnswer
		_, _ = second.try("GET", fmt.Sprintf("/v1/services/db/snapshot?index=%d&wait=60s", one.Index), nil, &s)
		answered <- s
	}()
	agent.WriteIntentions(t, "db", allow("web"))
	select {
	case got := <-answered:
		if got.Index <= one.Index {
			t.Errorf("after a change: got index %d, want more than %d", got.Index, one.Index)
		}
		one = got
	case <-time.After(10 * time.Second):
		t.Fatal("a waiting read was not answered after a change")
	}
	second.kill(t)

	if err := os.RemoveAll(c.StoreDir); err != nil {
		t.Fatal(err)
	}
	third := spawn(t, c)
	var got snapshotAnswer
	consultest.Eventually(t, 30*time.Second, "an answer after the store was deleted", func() error {
		resp, err := third.try("GET", fmt.Sprintf("/v1/services/db/snapshot?index=%d&wait=5m", one.Index), nil, &got)
		if err == nil && resp.StatusCode != 200 {
			err = errors.New(resp.Status)
		}
		return err
	})
	if got.Index <= one.Index {
		t.Errorf("without the store: got index %d, want more than %d", got.Index, one.Index)
	}
}

// TestRestartSignsNothing restarts the daemon and the agent: leaves that are
// still good are not asked for again.
func TestRestartSignsNothing(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Options{})
	agent.RegisterNative(t, "db", 5432)
	c := newConfig(t, agent.Addr())
	first := spawn(t, c)
	serial := first.durable(t, "db").Leaf.SerialNumber
	first.kill(t)
	agent.Restart()
	second := start(t, c)
	consultest.Eventually(t, 30*time.Second, "a fresh daemon", func() error { return second.wantState("ok") })
	if got := second.snapshot(t, "db").Leaf.SerialNumber; got != serial {
		t.Errorf("leaf %s was signed again as %s", serial, got)
	}
}
