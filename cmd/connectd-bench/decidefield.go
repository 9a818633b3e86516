package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/connectd/connectd/intentions"
)

// field is one destination with many intentions, and the sources to ask about.
type field struct {
	table *intentions.Table
	// allowed has every name with its answer.
	allowed map[string]bool
	// uris and asked are all sources in the same random order: as they stand in
	// certificates, and as bare names that share no memory with the map's.
	uris, asked []string
}

func newField(n int) *field {
	f := &field{allowed: make(map[string]bool, n)}
	list := make([]intentions.Intention, 0, n)
	for i := range n {
		x := intentions.Intention{SourceName: fmt.Sprintf("service-%06d", i), DestinationName: "db", Action: "deny", Precedence: 9}
		if i%2 == 0 {
			x.Action = "allow"
		}
		f.allowed[x.SourceName] = x.Action == "allow"
		list = append(list, x)
	}
	f.table = compile(list)
	// A fixed order, so that runs can be compared, without neighbours in memory
	// following each other.
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		f.asked = append(f.asked, strings.Clone(list[i].SourceName))
		f.uris = append(f.uris, uriOf(list[i].SourceName))
	}
	return f
}

func compile(list []intentions.Intention) *intentions.Table {
	policy, _ := intentions.NewPolicy(intentions.NewService("db"), benchTrustDomain, intentions.DefaultAction{}, list)
	return intentions.Compile(policy)
}

func uriOf(name string) string {
	return "spiffe://" + benchTrustDomain + "/ns/default/dc/dc1/svc/" + name
}

func decisionName(n int) string { return fmt.Sprintf("decision, %d intentions", n) }

func (f *field) rows() ([]*row, error) {
	for i, name := range f.asked {
		if d := f.table.DecideURI(f.uris[i], nil); d.Allowed() != f.allowed[name] || d.Reason != intentions.ReasonIntention {
			return nil, fmt.Errorf("decide %s: got %s by %s", f.uris[i], d.Outcome, d.Reason)
		}
	}
	n := len(f.asked)
	lookup := &row{name: fmt.Sprintf("map lookup, %d names", n), decide: f.lookUp()}
	decide := &row{name: decisionName(n), base: lookup, decide: f.decide(), targets: fieldTargets(n)}
	return []*row{lookup, decide}, nil
}

// decide asks about all sources in turn and goes on where it stopped.
func (f *field) decide() func(int) int {
	at := 0
	return func(count int) int {
		allowed := 0
		for range count {
			if f.table.DecideURI(f.uris[at], nil).Allowed() {
				allowed++
			}
			if at++; at == len(f.uris) {
				at = 0
			}
		}
		return allowed
	}
}

func (f *field) lookUp() func(int) int {
	at := 0
	return func(count int) int {
		allowed := 0
		for range count {
			if f.allowed[f.asked[at]] {
				allowed++
			}
			if at++; at == len(f.asked) {
				at = 0
			}
		}
		return allowed
	}
}
