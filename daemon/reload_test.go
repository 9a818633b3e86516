package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/cache/consul/consultest"
	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/socketapi"
)

// governed is a daemon on the development authority that follows rules.
type governed struct {
	config Config
	file   string
	hangup chan os.Signal
	main   *http.Client
	admin  *http.Client
}

// govern starts a daemon whose configuration is a file with these services.
func govern(t *testing.T, services string) *governed {
	t.Helper()
	dir, err := os.MkdirTemp("", "gov")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := &governed{file: filepath.Join(dir, "c.hcl"), hangup: make(chan os.Signal)}
	d.write(t, services)
	if d.config, err = LoadConfig(d.file); err != nil {
		t.Fatal(err)
	}
	d.main, d.admin = unixClient(d.config.Socket.Path), unixClient(d.config.AdminPath())
	authority, err := devca.New(devca.Config{Services: []devca.Service{{Name: "web", Port: 1, Native: true}, {Name: "db", Port: 2, Native: true}}})
	if err != nil {
		t.Fatal(err)
	}
	maker, err := newRuleMaker(d.config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := maker.rules(d.config.Services)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- run(ctx, d.config, Options{
			Logger: hclog.NewNullLogger(), Load: func() (Config, error) { return LoadConfig(d.file) },
			Hangup: d.hangup, Ready: func() { close(ready) },
		}, parts{
			source: authority, name: "development authority", maker: maker, settle: untilReady,
			admission: newAdmission(r, d.config.Services, hclog.NewNullLogger()),
		})
	}()
	t.Cleanup(func() {
		d.main.CloseIdleConnections()
		d.admin.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("daemon ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("daemon did not start: %v", err)
	}
	return d
}

func (d *governed) write(t *testing.T, services string) {
	t.Helper()
	dir := filepath.Dir(d.file)
	text := fmt.Sprintf("consul { address = \"http://127.0.0.1:8500\" }\nsocket {\n path = %q\n mode = \"0666\"\n}\nstore { dir = %q }\n%s",
		filepath.Join(dir, "s"), filepath.Join(dir, "store"), services)
	text = strings.ReplaceAll(text, "$DIR", dir)
	writeFile(t, d.file, text)
}

func ask(t *testing.T, c *http.Client, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://connectd"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	body, _ := bufio.NewReader(resp.Body).Peek(1 << 16)
	return resp.StatusCode, string(body)
}

func own() string { return strconv.Itoa(os.Geteuid()) }

func allowOwn(service, more string) string {
	return "service \"" + service + "\" {\n allow {\n user = \"" + own() + "\"\n" + more + "\n }\n}\n"
}

// TestAdmissionReload takes rights away and gives them, by signal and by
// request, while reads wait.
func TestAdmissionReload(t *testing.T) {
	d := govern(t, allowOwn("web", ""))
	const leaf = "/v1/services/web/leaf"
	for round := range 5 {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://connectd"+leaf, nil)
		resp, err := d.main.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("round %d: %v %v", round, resp, err)
		}
		resp.Body.Close()
		waited := make(chan int, 1)
		go func() {
			status, _ := ask(t, d.main, http.MethodGet, leaf+"?wait=1m&index="+resp.Header.Get("X-Consul-Index"))
			waited <- status
		}()
		d.write(t, "service \"web\" {\n broken")
		if status, body := ask(t, d.admin, http.MethodPost, "/v1/reload"); status != http.StatusBadRequest || !strings.Contains(body, "stays in force") {
			t.Errorf("a broken file: got %d %s", status, body)
		}
		d.write(t, "service \"db\" {\n socket { path = \"/run/../x\" }\n}\n")
		d.hangup <- os.Interrupt
		if status, _ := ask(t, d.main, http.MethodGet, leaf); status != http.StatusOK {
			t.Errorf("after broken files: got %d, want the old rights", status)
		}
		began := time.Now()
		d.write(t, allowOwn("db", ""))
		if round%2 == 0 {
			d.hangup <- os.Interrupt
		} else if status, body := ask(t, d.admin, http.MethodPost, "/v1/reload"); status != http.StatusOK || !strings.Contains(body, `"removed":["service web`) {
			t.Errorf("got %d %s", status, body)
		}
		if status, took := <-waited, time.Since(began); status != http.StatusForbidden || took > time.Second {
			t.Errorf("a wait ended with %d after %s, want a refusal within a second", status, took)
		}
		d.write(t, allowOwn("web", ""))
		if status, body := ask(t, d.admin, http.MethodPost, "/v1/reload"); status != http.StatusOK {
			t.Errorf("got %d %s", status, body)
		}
	}
}

func TestAdmissionByOwnSocket(t *testing.T) {
	door := "service \"web\" {\n socket {\n path = \"$DIR/web.sock\"\n %s }\n}\n"
	d := govern(t, fmt.Sprintf(door, ""))
	path := filepath.Join(filepath.Dir(d.file), "web.sock")
	c := unixClient(path)
	for target, want := range map[string]int{
		"/v1/services/web/leaf": 200, "/v1/services/web/snapshot": 200, "/v1/bundle": 200, "/v1/status": 200,
		"/v1/agent/connect/ca/leaf/web": 200, "/v1/services/db/leaf": 403, "/v1/services/db/policy": 403,
		"/v1/agent/connect/ca/leaf/db": 403, "/v1/reload": 404, "/v1/services/web/leaf?ns=other": 403,
	} {
		if got, body := ask(t, c, http.MethodGet, target); got != want {
			t.Errorf("%s on web's own socket: got %d %s, want %d", target, got, body, want)
		}
	}
	if got, _ := ask(t, d.main, http.MethodGet, "/v1/services/web/leaf"); got != 403 {
		t.Errorf("the main socket: got %d, want a refusal", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want mode 0600", info, err)
	}
	open, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	d.write(t, fmt.Sprintf(door, "owner = \"no-such-user-here\"\n"))
	if status, body := ask(t, d.admin, http.MethodPost, "/v1/reload"); status != 200 {
		t.Fatalf("got %d %s", status, body)
	}
	_ = open.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := open.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
		t.Errorf("a connection to a door that was taken away: got %v, want its end within a second", err)
	}
	consultest.Eventually(t, 10*time.Second, "the status to say why the socket is away", func() error {
		if _, body := ask(t, d.admin, http.MethodGet, "/v1/status"); !strings.Contains(body, "no-such-user-here") {
			return errors.New(body)
		}
		return nil
	})
}

func TestAdmissionExplains(t *testing.T) {
	d := govern(t, allowOwn("web", `unit = "other.service"`)+"service \"db\" {\n allow { user = \"no-such-user-here\" }\n}\n")
	status, body := ask(t, d.main, http.MethodGet, "/v1/services/web/leaf")
	_, id, _ := strings.Cut(body, "admission explain ")
	id, _, _ = strings.Cut(id, `"`)
	if status != http.StatusForbidden {
		t.Fatalf("got %d %s", status, body)
	}
	for path, want := range map[string][]string{
		"?refusal=" + id: {`"admitted":false`, `"want":"unit other.service"`, `"want":"user ` + own(), `"matches":true`},
		"?service=db&pid=" + strconv.Itoa(os.Getpid()):          {`"admitted":false`, "unknown here", `"service":"db"`},
		"?service=web&grant=status&user=root":                   {`"admitted":false`, "no unit that could be checked"},
		"?pid=" + strconv.Itoa(os.Getpid()) + "&grant=discover": {`"admitted":false`},
	} {
		status, body := ask(t, d.admin, http.MethodGet, "/v1/admission/explain"+path)
		for _, w := range want {
			if status != 200 || !strings.Contains(body, w) {
				t.Errorf("%s: got %d %s, want %s", path, status, body, w)
			}
		}
	}
	if status, _ := ask(t, d.admin, http.MethodGet, "/v1/admission/explain?user=no-such-user-here&service=web"); status != 400 {
		t.Errorf("an unknown user: got %d", status)
	}
	if _, body := ask(t, d.admin, http.MethodGet, "/v1/status"); !strings.Contains(body, "unknown_name") {
		t.Errorf("the status does not show the unknown name: %s", body)
	}
	if got, _ := ask(t, d.main, http.MethodGet, "/v1/admission/rights"); got != 404 {
		t.Errorf("the main socket answers the administrator's routes: %d", got)
	}
}

// TestAdmissionSurvivesReloads reloads 500 times, half of them broken, under
// load: nobody who keeps a right notices.
func TestAdmissionSurvivesReloads(t *testing.T) {
	d := govern(t, allowOwn("web", ""))
	stop, ended := make(chan struct{}), make(chan int)
	var answered atomic.Int64
	for range 2 {
		go func() {
			bad := 0
			for {
				select {
				case <-stop:
					ended <- bad
					return
				default:
				}
				if status, _ := ask(t, d.main, http.MethodGet, "/v1/services/web/leaf"); status != 200 {
					bad++
				}
				answered.Add(1)
			}
		}()
	}
	for i := range 250 {
		d.write(t, allowOwn("web", "")+allowOwn("s"+strconv.Itoa(i), ""))
		if status, body := ask(t, d.admin, http.MethodPost, "/v1/reload"); status != 200 {
			t.Errorf("got %d %s", status, body)
		}
		d.write(t, "broken {")
		if status, _ := ask(t, d.admin, http.MethodPost, "/v1/reload"); status != 400 {
			t.Errorf("a broken file: got %d", status)
		}
	}
	close(stop)
	if bad := <-ended + <-ended; bad > 0 {
		t.Errorf("%d of %d requests failed", bad, answered.Load())
	}
	t.Logf("500 reloads, 250 of them broken, under %d requests: 0 failures", answered.Load())
}

var _ socketapi.Administration = (*office)(nil)
