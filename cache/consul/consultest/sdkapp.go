package consultest

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// An SDKApp is a running sdkapp: an unmodified application of Consul's SDK.
type SDKApp struct {
	process  *process
	commands io.WriteCloser
	answers  *json.Decoder
	logFile  string
}

// An SDKCommand is what to do; each command reads only the fields it needs.
//
//	service      Name                        makes a service of the SDK and waits until it is ready
//	serve        Name                        serves HTTP that answers the caller's SPIFFE ID; gives Address
//	serve_raw    Name                        greets every accepted caller with one line; gives Address
//	dial         Name, Address, Destination  shakes hands and reads the server's first byte
//	dial_consul  Name, Destination           the same after discovery
//	get          Name, URL                   one request to *.service.consul or *.query.consul
//	authorize    Target, URI                 asks for a decision
//	leaf         Name, Index, Wait           asks for a leaf
//	roots        Index, Wait, Uncached       asks for the trust bundle
//	storm_start  Name, Address, Destination, Rate  dials in the background until storm_stop
//	storm_status Name                        gives Storm so far
//	storm_stop   Name                        finishes the handshakes under way and gives Storm
//	close        Name                        ends the service and its listeners
type SDKCommand struct {
	Do          string  `json:"do"`
	Name        string  `json:"name,omitempty"`
	Address     string  `json:"address,omitempty"`
	Destination string  `json:"destination,omitempty"`
	URL         string  `json:"url,omitempty"`
	Target      string  `json:"target,omitempty"`
	URI         string  `json:"uri,omitempty"`
	Index       uint64  `json:"index,omitempty"`
	Wait        string  `json:"wait,omitempty"`
	Uncached    bool    `json:"uncached,omitempty"`
	Rate        float64 `json:"rate,omitempty"`    // handshakes per second
	Timeout     string  `json:"timeout,omitempty"` // of the whole command, 10s when empty
}

// An SDKAnswer tells what came of a command. OK says that it was carried out; what came of
// a handshake is in Accepted and of an authorize call in Authorized. Error has the reason
// when one of them is false, and Code the HTTP status of a failed API call.
type SDKAnswer struct {
	OK      bool    `json:"ok"`
	Error   string  `json:"error"`
	Code    int     `json:"code"`
	Ready   bool    `json:"ready"`
	Address string  `json:"address"`
	MS      float64 `json:"ms"` // how long the command took

	// dial, dial_consul, get
	Accepted   bool   `json:"accepted"`
	PeerURI    string `json:"peer_uri"`
	PeerSerial string `json:"peer_serial"`
	Status     int    `json:"status"`
	Body       string `json:"body"`

	// authorize
	Authorized bool   `json:"authorized"`
	Reason     string `json:"reason"`

	// leaf, roots
	Serial      string   `json:"serial"`
	URI         string   `json:"uri"`
	ValidBefore string   `json:"valid_before"`
	Index       uint64   `json:"index"`
	Active      string   `json:"active"`
	TrustDomain string   `json:"trust_domain"`
	Roots       []string `json:"roots"`

	Storm *SDKStorm `json:"storm"`
}

// An SDKStorm counts the handshakes of a storm. Skipped are those that were not made
// because too many were under way. Errors has at most five different texts.
type SDKStorm struct {
	OK            int       `json:"ok"`
	Failed        int       `json:"failed"`
	Skipped       int       `json:"skipped"`
	Errors        []string  `json:"errors"`
	FailedAfterMS []float64 `json:"failed_after_ms"` // start of the first failures, since the storm's
	PeerSerials   int       `json:"peer_serials"`    // different leaves of the server
}

// StartSDKApp runs sdkapp until the test ends. addr is its CONSUL_HTTP_ADDR, and env has
// further variables, like CONSUL_HTTP_TOKEN=...; it inherits no CONSUL_ variable.
func StartSDKApp(t testing.TB, addr string, env ...string) *SDKApp {
	t.Helper()
	app := &SDKApp{logFile: filepath.Join(t.TempDir(), "sdkapp.log")}
	log, err := os.Create(app.logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(BuildSDKApp(t))
	cmd.Env = append(append(withoutConsul(os.Environ()), "CONSUL_HTTP_ADDR="+addr), env...)
	cmd.Stderr = log
	// Plain pipes: those of exec.Cmd are closed by Wait, which may come before the last answer is read.
	var answers, stdin, stdout *os.File
	if stdin, app.commands, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	if answers, stdout, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout = stdin, stdout
	app.answers = json.NewDecoder(answers)
	app.process, err = startProcess(cmd)
	stdin.Close()
	stdout.Close()
	if err != nil {
		t.Fatalf("starting sdkapp: %v", err)
	}
	t.Cleanup(func() {
		app.Stop()
		answers.Close()
		if t.Failed() {
			t.Logf("the log of sdkapp ends with\n%s", app.LogTail())
		}
	})
	return app
}

// Do carries out one command. It ends the test when the app gives no answer; an answer
// that is not OK is the caller's to judge.
func (a *SDKApp) Do(t testing.TB, c SDKCommand) SDKAnswer {
	t.Helper()
	var answer SDKAnswer
	if err := json.NewEncoder(a.commands).Encode(c); err != nil {
		t.Fatalf("sdkapp %s: %v", c.Do, err)
	}
	if err := a.answers.Decode(&answer); err != nil {
		t.Fatalf("sdkapp %s: no answer: %v", c.Do, err)
	}
	return answer
}

// MustDo is Do, and ends the test unless the answer is OK.
func (a *SDKApp) MustDo(t testing.TB, c SDKCommand) SDKAnswer {
	t.Helper()
	answer := a.Do(t, c)
	if !answer.OK {
		t.Fatalf("sdkapp %s: %s", c.Do, answer.Error)
	}
	return answer
}

// Stop ends the app: it closes its services at the end of its input.
func (a *SDKApp) Stop() {
	a.commands.Close()
	select {
	case <-a.process.exited:
	case <-time.After(stopGrace):
		a.process.end(os.Kill, stopGrace)
	}
}

// LogTail is the end of what the SDK logged.
func (a *SDKApp) LogTail() string { return tail(a.logFile) }
