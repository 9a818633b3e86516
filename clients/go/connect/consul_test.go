package connect

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/connectd/connectd/cache/consul/consultest"
	"github.com/connectd/connectd/clients/go/connectd"
)

// startDaemon runs the real daemon beside a Consul agent until the test ends,
// and makes it the one that services ask.
func startDaemon(t *testing.T, agent *consultest.Agent) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary := filepath.Join(dir, "connectd")
	// The root is another module, so the build runs there.
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", filepath.Join("..", "..", ".."), "-o", binary, "./cmd/connectd").CombinedOutput(); err != nil {
		t.Fatalf("build the daemon: %v\n%s", err, out)
	}
	socket, file := filepath.Join(dir, "s"), filepath.Join(dir, "connectd.hcl")
	text := fmt.Sprintf(`consul { address = %q }
socket { path = %q }
store { dir = %q }
service "*" {
  allow_any_service = true
  allow { user = "%d" }
}
`, agent.Addr(), socket, filepath.Join(dir, "store"), os.Geteuid())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, "run", "--config", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("the daemon's log:\n%s", said)
		}
	})
	t.Setenv(connectd.EnvSocket, socket)
}

// TestAgainstConsul is the SDK's page with a real agent behind the daemon: a
// server and its clients by name, by query and by resolver, and an intention
// that changes under an open connection.
func TestAgainstConsul(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{DefaultIntentionPolicy: "deny"})
	agent.WriteIntentions(t, "db", &api.SourceIntention{Name: "web", Action: api.IntentionActionAllow})
	startDaemon(t, agent)
	db, web := service(t, "db"), service(t, "web")
	address := serve(t, db)
	agent.RegisterNative(t, "db", address.(*net.TCPAddr).Port)
	client := agent.Client(t)
	if _, _, err := client.PreparedQuery().Create(&api.PreparedQueryDefinition{
		Name: "near", Service: api.ServiceQuery{Service: "db", Connect: true},
	}, nil); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"https://db.service.consul/", "https://db.service.dc1.consul/", "https://near.query.consul/"} {
		consultest.Eventually(t, 20*time.Second, url, func() error {
			got, err := fetch(web.HTTPClient(), url)
			if err == nil && !strings.HasSuffix(got, "/svc/web") {
				err = fmt.Errorf("got %q", got)
			}
			return err
		})
	}
	if got, err := fetch(service(t, "stranger").HTTPClient(), "https://db.service.consul/"); err == nil {
		t.Errorf("a source without an intention got %q", got)
	}
	conn, err := web.Dial(t.Context(), &ConsulResolver{Client: client, Name: "db"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	agent.WriteIntentions(t, "db", &api.SourceIntention{Name: "web", Action: api.IntentionActionDeny})
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for err == nil {
		_, err = conn.Read(make([]byte, 256))
	}
	took := time.Since(began)
	if os.IsTimeout(err) {
		t.Fatal("the connection outlived its intention")
	}
	if took > 2*time.Second {
		t.Errorf("closing took %s", took)
	}
	t.Logf("an open connection ended %s after the intention was written to Consul", took.Round(time.Millisecond))
}
