package consul_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/connectd/connectd/cache/consul/consultest"
	"github.com/connectd/connectd/clients/testvectors"
	"github.com/connectd/connectd/intentions"
)

// asker writes intentions to a real agent and asks it to authorize, at most
// eight questions at a time.
type asker struct {
	addr   string
	client *http.Client
	// names counts the destinations: each is asked about in one state only,
	// because the agent's cached answers stop following changes
	// (hashicorp/consul#23806).
	names atomic.Int64
}

const atOnce = 8

func newAsker(t *testing.T, defaultAction string) *asker {
	t.Helper()
	agent := consultest.Start(t, consultest.Options{DefaultIntentionPolicy: defaultAction})
	transport := &http.Transport{MaxIdleConnsPerHost: atOnce}
	t.Cleanup(transport.CloseIdleConnections)
	a := &asker{addr: agent.Addr(), client: &http.Client{Transport: transport}}
	for _, entry := range []map[string]any{
		// Permissions are refused for destinations that do not speak HTTP.
		{"Kind": "proxy-defaults", "Name": "global", "Config": map[string]any{"protocol": "http"}},
		{"Kind": "jwt-provider", "Name": "okta", "Issuer": "okta", "JSONWebKeySet": map[string]any{"Local": map[string]any{"JWKS": "eyJrZXlzIjpbXX0="}}},
	} {
		if err := a.write(entry); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func (a *asker) fresh(name string) string { return fmt.Sprintf("t%d-%s", a.names.Add(1), name) }

// send returns the status and the body of an answer.
func (a *asker) send(method, path string, body any) (int, []byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	address := a.addr
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	req, err := http.NewRequest(method, address+path, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func (a *asker) write(entry map[string]any) error {
	status, answer, err := a.send(http.MethodPut, "/v1/config", entry)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d: %s", status, answer)
	}
	return err
}

// writeIntentions replaces the intentions of a destination.
func (a *asker) writeIntentions(destination string, e entry) error {
	if len(e.Sources) == 0 {
		_, _, err := a.send(http.MethodDelete, "/v1/config/service-intentions/"+url.PathEscape(destination), nil)
		return err
	}
	body := map[string]any{"Kind": "service-intentions", "Name": destination, "Sources": e.Sources}
	if e.JWT != nil {
		body["JWT"] = e.JWT
	}
	return a.write(body)
}

// authorize asks the agent. A source that it cannot read is not authorized.
func (a *asker) authorize(source, target string) (bool, error) {
	status, raw, err := a.send(http.MethodPost, "/v1/agent/connect/authorize", map[string]string{"Target": target, "ClientCertURI": source})
	if err != nil {
		return false, err
	}
	if status == http.StatusBadRequest {
		return false, nil
	}
	var answer struct{ Authorized bool }
	if status != http.StatusOK {
		return false, fmt.Errorf("%d: %s", status, raw)
	}
	err = json.Unmarshal(raw, &answer)
	return answer.Authorized, err
}

// entry is the part of a service-intentions entry that the rows of one
// destination come from.
type entry struct {
	Sources []source
	JWT     json.RawMessage
}

type source struct {
	Name        string
	Peer        string            `json:",omitempty"`
	Action      string            `json:",omitempty"`
	Permissions []json.RawMessage `json:",omitempty"`
}

// entriesOf turns rows back into entries, for the destination and for all. It
// returns why that cannot be done in Community Edition.
func entriesOf(rows json.RawMessage) (own, all entry, spelled, why string) {
	var list []intentions.Intention
	var members []map[string]json.RawMessage
	if json.Unmarshal(rows, &list) != nil || json.Unmarshal(rows, &members) != nil {
		return own, all, "", "rows"
	}
	for i := range list {
		x := &list[i]
		e := &own
		if x.DestinationName == intentions.Wildcard {
			e = &all
		} else {
			spelled = x.DestinationName
		}
		if why = inexpressible(x, members[i]); why != "" {
			return own, all, spelled, why
		}
		if len(e.Sources) > 0 && string(e.JWT) != string(x.JWT) {
			return own, all, spelled, "JWT on one of several sources"
		}
		e.JWT = x.JWT
		e.Sources = append(e.Sources, source{x.SourceName, x.SourcePeer, x.Action, x.Permissions})
	}
	return own, all, spelled, ""
}

func inexpressible(x *intentions.Intention, members map[string]json.RawMessage) string {
	switch {
	case !x.Source().InDefaultParts():
		return "partitions and namespaces"
	case x.SourceSamenessGroup != "":
		return "sameness groups"
	case x.SourceType != "consul":
		return "kinds of source"
	case members["Future"] != nil:
		return "unknown members"
	}
	return ""
}

// phase is a set of groups that share the intentions for all destinations.
type phase struct {
	all    entry
	groups []confirmable
}

type confirmable struct {
	*testvectors.Group[testvectors.Case]
	own     entry
	spelled string
}

// tally counts what a confirmation saw.
type tally struct {
	sync.Mutex
	cases, stricter int
	left            map[string]int
}

func (c *tally) leave(why string, cases int) {
	c.Lock()
	defer c.Unlock()
	c.left[why] += cases
}

// TestVectorsConfirmedByConsul asks a real agent every question of l4.json
// that Community Edition can be asked. We never allow what it denies, and deny
// what it allows only where the vector says so.
func TestVectorsConfirmedByConsul(t *testing.T) {
	f, err := testvectors.Read[testvectors.Case]("l4.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"allow", "deny"} {
		t.Run("default-"+action, func(t *testing.T) {
			a, count := newAsker(t, action), &tally{left: map[string]int{}}
			phases := map[string]*phase{}
			for i := range f.Groups {
				arrange(t, phases, &f.Groups[i], action, count)
			}
			for _, key := range slices.Sorted(maps.Keys(phases)) {
				if err := a.writeIntentions(intentions.Wildcard, phases[key].all); err != nil {
					for _, g := range phases[key].groups {
						count.leave("refused by Consul", len(g.Cases))
					}
					t.Logf("for all destinations: %v", err)
					continue
				}
				a.confirmAll(t, phases[key].groups, count)
			}
			t.Logf("%d cases confirmed in %d phases, %d of them stricter than Consul; not asked: %v",
				count.cases, len(phases), count.stricter, count.left)
			if count.cases < 700 || count.stricter < 10 {
				t.Errorf("got %d cases and %d stricter, which is too few to confirm anything", count.cases, count.stricter)
			}
		})
	}
}

func arrange(t *testing.T, phases map[string]*phase, g *testvectors.Group[testvectors.Case], action string, count *tally) {
	p, err := intentions.ParsePolicy(g.Policy)
	if err != nil {
		t.Fatal(err)
	}
	if p.DefaultAction != action {
		return
	}
	own, all, spelled, why := entriesOf(g.Intentions)
	if why != "" {
		count.leave(why, len(g.Cases))
		return
	}
	key, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if phases[string(key)] == nil {
		phases[string(key)] = &phase{all: all}
	}
	if spelled == "" {
		spelled = p.Destination.Name
	}
	phases[string(key)].groups = append(phases[string(key)].groups, confirmable{g, own, spelled})
}

// each calls f for every item, a few at a time.
func each[T any](list []T, f func(T)) {
	work := make(chan T)
	var done sync.WaitGroup
	for range atOnce {
		done.Go(func() {
			for x := range work {
				f(x)
			}
		})
	}
	for _, x := range list {
		work <- x
	}
	close(work)
	done.Wait()
}

func (a *asker) confirmAll(t *testing.T, groups []confirmable, count *tally) {
	each(groups, func(g confirmable) {
		spelled := a.fresh(g.spelled)
		if err := a.writeIntentions(spelled, g.own); err != nil {
			t.Logf("%s: %v", g.Name, err)
			count.leave("refused by Consul", len(g.Cases))
			return
		}
		for i := range g.Cases {
			c := &g.Cases[i]
			if id, err := intentions.ParseID(string(c.Source)); err == nil && id.Service.Partition != intentions.DefaultPart {
				// The agent refuses the question where the partitions differ.
				count.leave("sources in another partition", 1)
				continue
			}
			a.confirm(t, c, strings.ToLower(spelled), count)
		}
	})
}

func (a *asker) confirm(t *testing.T, c *testvectors.Case, target string, count *tally) {
	authorized, err := a.authorize(string(c.Source), target)
	if err != nil {
		t.Errorf("%s: %v", c.ID, err)
		return
	}
	allowed, stricter := c.Decision == "allow", slices.Contains(c.Flags, "stricter-than-consul")
	switch {
	case allowed && !authorized:
		t.Errorf("%s: we allow what Consul denies: %s", c.ID, c.Comment)
	case stricter && !authorized:
		t.Errorf("%s: we are not stricter than Consul: %s", c.ID, c.Comment)
	case !stricter && authorized != allowed:
		t.Errorf("%s: Consul allows and we say %s (%s): %s", c.ID, c.Decision, c.Reason, c.Comment)
	}
	count.Lock()
	defer count.Unlock()
	count.cases++
	if stricter {
		count.stricter++
	}
}
