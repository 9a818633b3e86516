package consul_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/connectd/connectd/intentions"
)

const (
	diffPhases  = 4
	diffTargets = 10
	diffSources = 150
)

// TestVectorsAgainstConsulAtRandom writes random intentions to a real agent, reads
// them back as the daemon does and compares the engine's decision with the
// agent's for 12,000 pairs.
func TestVectorsAgainstConsulAtRandom(t *testing.T) {
	for _, action := range []string{"allow", "deny"} {
		t.Run("default-"+action, func(t *testing.T) {
			a := newAsker(t, action)
			var pairs, allowed atomic.Int64
			r := rand.New(rand.NewPCG(11, uint64(len(action))))
			for range diffPhases {
				if err := a.writeIntentions(intentions.Wildcard, randomEntry(r, r.IntN(30), false)); err != nil {
					t.Fatal(err)
				}
				targets := map[string]entry{}
				for range diffTargets {
					targets[a.fresh("db")] = randomEntry(r, r.IntN(60), true)
				}
				var list []string
				for target := range targets {
					list = append(list, target)
				}
				each(list, func(target string) {
					n, yes := a.compare(t, target, targets[target], action)
					pairs.Add(n)
					allowed.Add(yes)
				})
			}
			t.Logf("%d pairs compared, %d of them allowed", pairs.Load(), allowed.Load())
			if pairs.Load() < 6000 || allowed.Load() < 500 || allowed.Load() > 5500 {
				t.Errorf("got %d pairs with %d allowed, which compares too little", pairs.Load(), allowed.Load())
			}
		})
	}
}

// randomEntry draws sources among the names that are asked about, spelled in
// several ways.
func randomEntry(r *rand.Rand, n int, permissions bool) entry {
	var e entry
	seen := map[string]bool{}
	for range n {
		s := source{Name: sourceName(r.IntN(diffSources)), Action: []string{"allow", "deny"}[r.IntN(2)]}
		switch {
		case r.IntN(12) == 0:
			s.Name = intentions.Wildcard
		case r.IntN(12) == 0:
			s.Peer = "cloud"
		}
		if permissions && r.IntN(6) == 0 {
			s.Action = ""
			s.Permissions = []json.RawMessage{json.RawMessage(`{"Action":"allow","HTTP":{"PathPrefix":"/"}}`)}
		}
		if key := s.Peer + "/" + s.Name; !seen[key] {
			seen[key] = true
			e.Sources = append(e.Sources, s)
		}
	}
	return e
}

// sourceName gives every fifth name again in upper case.
func sourceName(i int) string {
	if i%5 == 4 {
		return fmt.Sprintf("SRC-%d", i-1)
	}
	return fmt.Sprintf("src-%d", i)
}

// compare returns how many sources were compared and how many may pass.
func (a *asker) compare(t *testing.T, target string, e entry, action string) (pairs, allowed int64) {
	if err := a.writeIntentions(target, e); err != nil {
		t.Errorf("%s: %v", target, err)
		return 0, 0
	}
	table, err := a.table(target, action)
	if err != nil {
		t.Errorf("%s: %v", target, err)
		return 0, 0
	}
	for i := range diffSources {
		uri := "spiffe://td.consul/ns/default/dc/dc1/svc/" + sourceName(i)
		d := table.DecideURI(uri, nil)
		authorized, err := a.authorize(uri, target)
		if err != nil || d.Allowed() != authorized {
			t.Errorf("%s to %s: we say %s (%s), Consul says %v, %v", uri, target, d.Outcome, d.Reason, authorized, err)
			return pairs, allowed
		}
		pairs++
		if authorized {
			allowed++
		}
	}
	return pairs, allowed
}

// table reads the intentions of a destination back and compiles them.
func (a *asker) table(target, action string) (*intentions.Table, error) {
	status, raw, err := a.send(http.MethodGet, "/v1/connect/intentions/match?by=destination&name="+url.QueryEscape(target), nil)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("%d: %s: %w", status, raw, err)
	}
	var byName map[string]json.RawMessage
	if err := json.Unmarshal(raw, &byName); err != nil {
		return nil, err
	}
	list, err := intentions.ParseIntentions(byName[target])
	if err != nil {
		return nil, err
	}
	p, _ := intentions.NewPolicy(intentions.NewService(target), "td.consul", intentions.DefaultAction{Allow: action == "allow"}, list)
	return intentions.Compile(p), nil
}
