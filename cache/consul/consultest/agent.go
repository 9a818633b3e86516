package consultest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	startTimeout = 90 * time.Second
	stopGrace    = 5 * time.Second
	startTries   = 5
)

// errPortTaken says that another process was faster to take a port that had been free.
var errPortTaken = errors.New("a port was taken by another process")

// An Agent is a Consul agent in its own process. Its methods are called from one
// goroutine, the test's, because they end the test when something fails.
type Agent struct {
	NodeName string
	IsClient bool

	// ManagementToken is empty when ACLs are off.
	ManagementToken string

	// HTTPSAddr is https://127.0.0.1:port, and CAFile the root that verifies it (Options.TLS).
	HTTPSAddr string
	CAFile    string

	// SocketPath is the path of the HTTP socket (Options.UnixSocket).
	SocketPath string

	t       testing.TB
	binary  string
	opts    Options
	dir     string
	ports   ports
	process *process
}

// nodes counts agents, because node names are unique in a cluster.
var nodes atomic.Int64

// Start runs an agent until the test ends and returns when it serves. The test is skipped
// without Consul, and fails when the agent does not start.
func Start(t testing.TB, opts Options) *Agent {
	t.Helper()
	binary := Binary(t)
	a := &Agent{
		NodeName: fmt.Sprintf("consultest-%d-%d", os.Getpid(), nodes.Add(1)),
		IsClient: opts.Join != nil,
		t:        t,
		binary:   binary,
		opts:     opts,
		dir:      t.TempDir(),
	}
	if a.IsClient {
		a.opts.ACL, a.opts.DefaultPolicy = opts.Join.opts.ACL, opts.Join.opts.DefaultPolicy
	}
	if a.opts.ACL {
		a.ManagementToken = ManagementToken
	}
	if err := a.makeFiles(); err != nil {
		t.Fatalf("preparing a Consul agent: %v", err)
	}
	t.Cleanup(a.cleanup)
	if err := a.launchSomewhere(); err != nil {
		t.Fatalf("starting a Consul agent: %v", err)
	}
	return a
}

// makeFiles makes what outlives a restart, except the configuration, which has the ports.
func (a *Agent) makeFiles() error {
	if a.opts.TLS {
		a.CAFile = filepath.Join(a.dir, "https-ca.pem")
		if err := writeHTTPSFiles(a.dir); err != nil {
			return err
		}
	}
	if a.opts.UnixSocket {
		// The path of a socket is limited to about 100 bytes, and t.TempDir is long.
		dir, err := os.MkdirTemp("", "consul")
		if err != nil {
			return err
		}
		a.t.Cleanup(func() { os.RemoveAll(dir) })
		a.SocketPath = filepath.Join(dir, "http.sock")
	}
	return nil
}

// launchSomewhere starts the agent on free ports, on others when those are taken meanwhile.
func (a *Agent) launchSomewhere() error {
	var err error
	for range startTries {
		if a.ports, err = choosePorts(); err != nil {
			return err
		}
		if a.opts.TLS {
			a.HTTPSAddr = fmt.Sprintf("https://127.0.0.1:%d", a.ports.https)
		}
		if err := os.RemoveAll(a.dataDir()); err != nil {
			return err
		}
		if err := a.writeConfig(); err != nil {
			return err
		}
		if err = a.launch(); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// launch starts the process and returns when it serves, or after it has ended.
func (a *Agent) launch() error {
	log, err := os.OpenFile(a.logFile(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(a.binary, "agent", "-config-file="+a.configFile())
	cmd.Dir = a.dir
	cmd.Env = withoutConsul(os.Environ())
	cmd.Stdout, cmd.Stderr = log, log
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	var exited bool
	err = until(startTimeout, func() error {
		if exited = !p.running(); exited {
			return nil
		}
		return a.serving()
	})
	switch {
	case exited && strings.Contains(tail(a.logFile()), "address already in use"):
		return errPortTaken
	case exited:
		return fmt.Errorf("the agent ended at once; its log ends with\n%s", tail(a.logFile()))
	case err != nil:
		p.end(os.Kill, stopGrace)
		return fmt.Errorf("not ready after %v: %w; its log ends with\n%s", startTimeout, err, tail(a.logFile()))
	}
	a.process = p
	return nil
}

// serving asks whether the agent is this one, has a leader, and has trust bundles to
// give. A Unix socket or HTTPS listener is there by then: Consul opens all at once.
func (a *Agent) serving() error {
	var self struct{ Config struct{ NodeName string } }
	if err := a.get("/v1/agent/self", &self); err != nil {
		return err
	}
	if self.Config.NodeName != a.NodeName {
		return fmt.Errorf("port %d belongs to another agent, %q", a.ports.http, self.Config.NodeName)
	}
	var leader string
	if err := a.get("/v1/status/leader", &leader); err != nil {
		return err
	}
	if leader == "" {
		return errors.New("no leader yet")
	}
	var roots struct{ ActiveRootID string }
	if err := a.get("/v1/connect/ca/roots", &roots); err != nil {
		return err
	}
	if roots.ActiveRootID == "" {
		return errors.New("no active root yet")
	}
	return nil
}

// get asks the agent without the api package, over a connection that is closed after.
func (a *Agent) get(path string, answer any) error {
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.Addr()+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-Consul-Token", a.ManagementToken)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// Addr is the agent's HTTP address, http://127.0.0.1:port. It stays the same for its life.
func (a *Agent) Addr() string {
	return fmt.Sprintf("http://127.0.0.1:%d", a.ports.http)
}

// Start starts a stopped agent again in place, with its data and ports, and returns when it serves.
func (a *Agent) Start() {
	a.t.Helper()
	if a.process != nil {
		a.t.Fatal("starting a Consul agent that runs")
	}
	// The ports are to stay, so a taken one can only be waited for.
	var err error
	for range startTries {
		if err = a.launch(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		a.t.Fatalf("restarting a Consul agent: %v", err)
	}
}

// Stop ends the agent in the orderly way and returns when it is gone.
func (a *Agent) Stop() { a.end(syscall.SIGTERM) }

// Kill ends the agent without warning and returns when it is gone.
func (a *Agent) Kill() { a.end(os.Kill) }

// Restart stops the agent and starts it in place.
func (a *Agent) Restart() {
	a.t.Helper()
	a.Stop()
	a.Start()
}

func (a *Agent) end(sig os.Signal) {
	if a.process == nil {
		return
	}
	a.process.signal(syscall.SIGCONT)
	a.process.end(sig, stopGrace)
	a.process = nil
}

// Pause freezes the agent: connections stay open and nothing answers.
func (a *Agent) Pause() {
	a.t.Helper()
	a.send(syscall.SIGSTOP)
	Eventually(a.t, stopGrace, "a pause", func() error { return frozen(a.process.cmd.Process.Pid) })
}

// Resume ends a Pause.
func (a *Agent) Resume() { a.send(syscall.SIGCONT) }

func (a *Agent) send(sig os.Signal) {
	a.t.Helper()
	if a.process == nil {
		a.t.Fatalf("sending %v to a Consul agent that does not run", sig)
	}
	a.process.signal(sig)
}

func (a *Agent) cleanup() {
	if a.t.Failed() {
		// Before Stop, which would fill the end of the log with itself.
		a.t.Logf("the log of %s ends with\n%s", a.NodeName, tail(a.logFile()))
	}
	a.Stop()
}

// tail returns the last lines of a log file.
func tail(path string) string {
	const lines = 100
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// withoutConsul drops the variables that configure Consul's own programs.
func withoutConsul(environ []string) []string {
	var kept []string
	for _, entry := range environ {
		if !strings.HasPrefix(entry, "CONSUL_") {
			kept = append(kept, entry)
		}
	}
	return kept
}
