package consultest

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func allow(source string) *api.SourceIntention {
	return &api.SourceIntention{Name: source, Action: api.IntentionActionAllow}
}

// authorized asks the agent's own decision, with a token of its own each time when there
// are ACLs, because Consul may freeze the answer for one token.
func authorized(t *testing.T, a *Agent, source, destination string) bool {
	t.Helper()
	answer, err := a.Client(t).Agent().ConnectAuthorize(&api.AgentAuthorizeParams{
		Target:        destination,
		ClientCertURI: "spiffe://" + a.TrustDomain(t) + "/ns/default/dc/dc1/svc/" + source,
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Authorized
}

func TestStart(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{})
	if domain := a.TrustDomain(t); !strings.HasSuffix(domain, ".consul") {
		t.Errorf("trust domain %q", domain)
	}
	if !authorized(t, a, "web", "db") {
		t.Error("the default without ACLs is allow")
	}
	a.RegisterNative(t, "web", 8080)
}

func TestStartACL(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{ACL: true})
	if authorized(t, a, "web", "db") {
		t.Error("the default policy is deny")
	}
	a.RegisterNative(t, "web", 8080)
	secret := a.CreateToken(t, `service "web" { policy = "write" }`)
	for name, want := range map[string]bool{"web": true, "db": false} {
		_, _, err := a.Client(t).Agent().ConnectCALeaf(name, &api.QueryOptions{Token: secret})
		if got := err == nil; got != want {
			t.Errorf("leaf of %s with a token for web: %v", name, err)
		}
	}
}

func TestStartACLAllow(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{ACL: true, DefaultPolicy: "allow"})
	if !authorized(t, a, "web", "db") {
		t.Error("the default policy is allow")
	}
}

func TestStartDefaultIntentionPolicy(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{DefaultIntentionPolicy: "deny"})
	if authorized(t, a, "web", "db") {
		t.Error("the default intention policy is deny")
	}
}

func TestStartTLS(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{TLS: true})
	pem, err := os.ReadFile(a.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	get(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, a.HTTPSAddr)
}

func TestStartUnixSocket(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{UnixSocket: true})
	if len(a.SocketPath) >= 100 {
		t.Errorf("path of %d bytes: %s", len(a.SocketPath), a.SocketPath)
	}
	overUnix := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.SocketPath)
	}}
	get(t, overUnix, "http://localhost")
	a.Kill()
	a.Start()
	get(t, overUnix, "http://localhost")
}

// get asks for the leader over the transport and ends the test unless the answer is 200.
func get(t *testing.T, transport *http.Transport, addr string) {
	t.Helper()
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(addr + "/v1/status/leader")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
}

func TestStartHTTPMaxConnsPerClient(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{HTTPMaxConnsPerClient: 2})
	var refused error
	for range 3 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.Addr(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		refused = answered(conn)
	}
	if refused == nil {
		t.Error("the third connection was answered")
	}
}

// answered makes one request on conn, which stays open.
func answered(conn net.Conn) error {
	if _, err := conn.Write([]byte("GET /v1/status/leader HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.Contains(line, " 200 ") {
		err = errors.New(line)
	}
	return err
}

func TestStartClient(t *testing.T) {
	t.Parallel()
	server := Start(t, Options{ACL: true})
	client := Start(t, Options{Join: server})
	if !client.IsClient || server.IsClient {
		t.Errorf("IsClient: client %v, server %v", client.IsClient, server.IsClient)
	}
	if got, want := client.TrustDomain(t), server.TrustDomain(t); got != want {
		t.Errorf("trust domain %q, want %q", got, want)
	}
	client.RegisterNative(t, "web", 8080)
	server.WriteIntentions(t, "db", allow("web"))
	Eventually(t, stepTimeout, "the intention on the client agent", func() error {
		if !authorized(t, client, "web", "db") {
			return errors.New("denied")
		}
		return nil
	})
	client.Restart()
	if _, _, err := client.Client(t).Agent().ConnectCALeaf("web", nil); err != nil {
		t.Error(err)
	}
}

func TestStartCAConfig(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{CAConfig: map[string]any{"leaf_cert_ttl": "1h", "csr_max_per_second": 1}})
	var leaf *api.LeafCert
	Eventually(t, stepTimeout, "the second signature", func() (err error) {
		// A server has one signed for itself first.
		leaf, _, err = a.Client(t).Agent().ConnectCALeaf("web", nil)
		return err
	})
	if left := time.Until(leaf.ValidBefore); left > time.Hour {
		t.Errorf("the leaf is valid for %v", left)
	}
}

func TestStartExtra(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{
		HTTPMaxConnsPerClient: 50,
		Extra: map[string]any{
			"limits":    map[string]any{"rpc_max_conns_per_client": 60},
			"node_meta": map[string]any{"rack": "seven"},
		},
	})
	self, err := a.Client(t).Agent().Self()
	if err != nil {
		t.Fatal(err)
	}
	debug := self["DebugConfig"]
	if got := debug["HTTPMaxConnsPerClient"]; got != 50.0 {
		t.Errorf("HTTPMaxConnsPerClient: %v", got)
	}
	if got := debug["RPCMaxConnsPerClient"]; got != 60.0 {
		t.Errorf("RPCMaxConnsPerClient: %v", got)
	}
	if got := self["Meta"]["rack"]; got != "seven" {
		t.Errorf("rack: %v", got)
	}
}

func TestRestartKeepsIntentions(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{DefaultIntentionPolicy: "deny"})
	a.WriteIntentions(t, "db", allow("web"))
	addr, domain := a.Addr(), a.TrustDomain(t)
	root := a.RotateRoot(t)
	for _, stop := range []func(){a.Stop, a.Kill} {
		stop()
		if !portFree(a.ports.http) {
			t.Error("the stopped agent holds its port")
		}
		a.Start()
		if !authorized(t, a, "web", "db") {
			t.Error("the intention is lost")
		}
		if a.Addr() != addr || a.TrustDomain(t) != domain || a.roots(t).ActiveRootID != root {
			t.Error("another address, trust domain or root")
		}
	}
	a.DeleteIntentions(t, "db")
	a.Restart()
	if authorized(t, a, "web", "db") {
		t.Error("the deleted intention is back")
	}
}

func TestRotateRoot(t *testing.T) {
	t.Parallel()
	server := Start(t, Options{})
	client := Start(t, Options{Join: server})
	seen := map[string]bool{server.roots(t).ActiveRootID: true}
	for i := range 5 {
		rotated := []*Agent{server, client}[i%2]
		id := rotated.RotateRoot(t)
		if seen[id] {
			t.Fatalf("rotation %d: %s was active before", i, id)
		}
		seen[id] = true
		active := activeRoot(t, server)
		if active.ID != id || len(active.IntermediateCerts) != 1 {
			t.Errorf("active root %s with %d cross-signed certificates, want %s with one",
				active.ID, len(active.IntermediateCerts), id)
		}
	}
	leaf, _, err := server.Client(t).Agent().ConnectCALeaf("web", nil)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, leaf, activeRoot(t, server).RootCert)
}

// A root has the fields that the api package leaves out.
type root struct {
	ID                string
	RootCert          string
	IntermediateCerts []string
	Active            bool
}

func activeRoot(t *testing.T, a *Agent) root {
	t.Helper()
	var list struct{ Roots []root }
	if err := a.get("/v1/connect/ca/roots", &list); err != nil {
		t.Fatal(err)
	}
	for _, root := range list.Roots {
		if root.Active {
			return root
		}
	}
	t.Fatal("no active root")
	return root{}
}

func verify(t *testing.T, leaf *api.LeafCert, root string) {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(root))
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		t.Error(err)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{})
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := a.Client(t).Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
		return err
	}
	a.Pause()
	if err := ask(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused agent: got %v, want deadline exceeded", err)
	}
	a.Resume()
	Eventually(t, stepTimeout, "an answer after Resume", ask)
	a.Pause()
	a.Stop()
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	first := Start(t, Options{})
	dir := t.TempDir()
	second := &Agent{NodeName: "late", t: t, binary: first.binary, dir: dir, ports: first.ports}
	if err := second.writeConfig(); err != nil {
		t.Fatal(err)
	}
	if err := second.launch(); !errors.Is(err, errPortTaken) {
		t.Errorf("got %v, want %v", err, errPortTaken)
	}
}

// TestAgentDiesWithTestBinary kills a second process of this test binary and looks for its agent.
func TestAgentDiesWithTestBinary(t *testing.T) {
	const childEnv = "CONSULTEST_CHILD"
	if os.Getenv(childEnv) != "" {
		a := Start(t, Options{})
		os.Stdout.WriteString("agent " + strconv.Itoa(a.process.cmd.Process.Pid) + "\n")
		<-t.Context().Done()
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends the children of a killed process")
	}
	t.Parallel()
	Binary(t)
	child := exec.Command(os.Args[0], "-test.run=^TestAgentDiesWithTestBinary$")
	child.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+t.TempDir())
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	killed := child.Process.Kill()
	_ = child.Wait()
	pid, parsed := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "agent "))
	if err := errors.Join(err, killed, parsed); err != nil {
		t.Fatal(err)
	}
	Eventually(t, stepTimeout, "the end of the agent", func() error {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return nil
		}
		return errors.New("the agent runs")
	})
}
