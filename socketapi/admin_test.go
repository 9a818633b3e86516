package socketapi_test

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// office is an administration that answers as it is told.
type office struct{ err error }

func (o office) Reload() (socketapi.Reloaded, error) {
	return socketapi.Reloaded{Added: []string{"a"}, Removed: []string{}, Restart: []string{}}, o.err
}
func (o office) Rights() []string { return []string{"a"} }
func (o office) Explain(q socketapi.Question) (socketapi.Explanation, error) {
	return socketapi.Explanation{Peer: q.Peer.Facts(), Service: q.Service.Name, Grant: q.Grant, Blocks: []socketapi.BlockVerdict{
		{Service: "web", Block: 1, Selectors: []socketapi.SelectorVerdict{{Want: "user 1", Got: "uid 0"}}},
	}}, o.err
}

func (c *contract) testAdministration(t *testing.T) {
	good := c.start(t, setup{admin: true, administration: office{}})
	bad := c.start(t, setup{admin: true, administration: office{errors.New("line 1: wrong")}})
	good.ask(http.MethodPost, "/v1/reload", "", http.StatusOK)
	bad.fails(http.MethodPost, "/v1/reload", "", http.StatusBadRequest, "bad_request")
	good.ask(http.MethodGet, "/v1/admission/rights", "", http.StatusOK)
	const explain = "/v1/admission/explain"
	good.ask(http.MethodGet, explain+"?user=web&service=web", "", http.StatusOK)
	bad.fails(http.MethodGet, explain+"?user=web&service=web", "", http.StatusBadRequest, "bad_request")
	good.ask(http.MethodGet, explain+"?grant=status&pid="+strconv.Itoa(os.Getpid()), "", http.StatusOK)
	for _, q := range []string{"", "?user=web", "?pid=x", "?pid=-1", "?pid=0", "?pid=2147483647", "?refusal=", "?refusal=x", "?user=a&service=a@b"} {
		good.fails(http.MethodGet, explain+q, "", http.StatusBadRequest, "bad_request")
	}
	good.fails(http.MethodGet, "/v1/reload", "", http.StatusMethodNotAllowed, "method_not_allowed")
	good.fails(http.MethodPost, "/v1/admission/rights", "", http.StatusMethodNotAllowed, "method_not_allowed")
	good.fails(http.MethodPost, explain, "", http.StatusMethodNotAllowed, "method_not_allowed")
	refused := good.ask(http.MethodGet, "/v1/services/web/leaf", "", http.StatusForbidden)
	_, id, _ := strings.Cut(refused.Error.Message, "admission explain ")
	good.ask(http.MethodGet, explain+"?refusal="+id, "", http.StatusOK)
}

// TestRefusalsSayTheSame compares refusals for services that exist and not.
func TestRefusalsSayTheSame(t *testing.T) {
	c := loadContract(t)
	k := c.start(t, setup{admission: admit(func(_ socketapi.Grant, s intentions.Service) bool { return s.Name == "" })})
	text := func(service string) string {
		a := k.ask(http.MethodGet, "/v1/services/"+service+"/leaf", "", http.StatusForbidden)
		_, id, _ := strings.Cut(a.Error.Message, "admission explain ")
		return strings.ReplaceAll(a.Error.Message, id, "ID")
	}
	if a, b := text("web"), text("no-such-service"); a != b {
		t.Errorf("a service that exists: %s\none that does not: %s", a, b)
	}
}

// changing is an admission whose rights can be taken away.
type changing struct {
	mu      sync.Mutex // guards all
	open    bool
	changed chan struct{}
}

func (a *changing) Admit(socketapi.Peer, socketapi.Grant, intentions.Service) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

func (a *changing) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func (a *changing) set(open bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.changed)
	a.open, a.changed = open, make(chan struct{})
}

// TestRevokedWaitsEndAtOnce takes rights away while reads wait. Time stands
// still in the bubble, so an answer at the same time came at once.
func TestRevokedWaitsEndAtOnce(t *testing.T) {
	c := loadContract(t)
	for _, path := range []string{
		"/v1/services/web/snapshot", "/v1/services/web/leaf", "/v1/services/web/policy", "/v1/bundle", "/v1/discovery/web",
		"/v1/agent/connect/ca/roots", "/v1/agent/connect/ca/leaf/web", "/v1/connect/intentions/match?by=destination&name=web",
	} {
		t.Run(strings.ReplaceAll(path[4:], "/", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &changing{open: true, changed: make(chan struct{})}
				k := c.start(t, setup{admission: a, piped: true})
				index := c.send(t, k.client, http.MethodGet, path, "").response.Header.Get("X-Consul-Index")
				sign := "?"
				if strings.Contains(path, "?") {
					sign = "&"
				}
				began := time.Now()
				ended := make(chan int)
				go func() {
					ended <- c.send(t, k.client, http.MethodGet, path+sign+"wait=5m&index="+index, "").response.StatusCode
				}()
				synctest.Wait()
				a.set(true)
				synctest.Wait()
				select {
				case status := <-ended:
					t.Fatalf("a change that keeps the right ended the wait with %d", status)
				default:
				}
				a.set(false)
				if status, took := <-ended, time.Since(began); status != http.StatusForbidden || took > time.Second {
					t.Errorf("got %d after %s, want a refusal at once", status, took)
				}
			})
		})
	}
}
