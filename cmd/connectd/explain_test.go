package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connectd/connectd/clients/go/connectd"
)

// crowded is a denial after many rules.
func crowded(passed, notListed int, last ...connectd.ConsideredRule) *connectd.Decision {
	x := &connectd.Explanation{DefaultAction: "deny", DefaultOrigin: "acl", NotListed: notListed}
	for i := range passed {
		x.Considered = append(x.Considered, connectd.ConsideredRule{
			Rule: fmt.Sprintf("r%d", i+1), Source: "default/x", Destination: "default/db", Why: "no",
		})
	}
	x.Considered = append(x.Considered, last...)
	return &connectd.Decision{Decision: "deny", Reason: "default_action", Freshness: "fresh", Explanation: x}
}

// TestConsideredIsShort shows at most five rules that were passed over, unless
// asked for more, and says how many are hidden.
func TestConsideredIsShort(t *testing.T) {
	last := connectd.ConsideredRule{Rule: "r99", Source: "default/*", Destination: "default/db", Matched: true}
	five := ""
	for i := range 5 {
		five += fmt.Sprintf("r%d default/x -> default/db no\n", i+1)
	}
	for _, tt := range []struct {
		name    string
		d       *connectd.Decision
		verbose bool
		want    string
	}{
		{"none", crowded(0, 0), false, ""},
		{"one", crowded(1, 0), false, "r1 default/x -> default/db no\n"},
		{"five", crowded(5, 0, last), false, five + "r99 default/* -> default/db matches\n"},
		{"seven", crowded(7, 0, last), false, five + "... 2 more rules for other sources too; see --verbose\nr99 default/* -> default/db matches\n"},
		{"seven_verbose", crowded(7, 0), true, five + "r6 default/x -> default/db no\nr7 default/x -> default/db no\n"},
		{"not_listed", crowded(6, 10), false, five + "... 11 more rules for other sources too; see --verbose\n"},
		{"not_listed_verbose", crowded(6, 1), true, five + "r6 default/x -> default/db no\n... 1 more rule for other sources too; see connectd policy db\n"},
		{"control_bytes", crowded(0, 0, connectd.ConsideredRule{Rule: "r1", Why: "\x1b[2J"}), false, "r1 -> [2J\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if err := printDecision(&out, &authorizeFlags{source: "web", destination: "db", verbose: tt.verbose}, tt.d); err != nil {
				t.Fatal(err)
			}
			_, considered, _ := strings.Cut(out.String(), "\nconsidered:\n")
			got := ""
			for line := range strings.Lines(considered) {
				got += strings.Join(strings.Fields(line), " ") + "\n"
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !strings.Contains(out.String(), "default  deny (Consul's ACL default policy)\n") {
				t.Errorf("got %s", out.String())
			}
		})
	}
}

func TestAuthorizeJSONHoldsTheExplanation(t *testing.T) {
	socket := socketPath(t)
	startDaemon(t, socket)
	got := runCommand(t, "authorize", "--source", "web", "--destination", "db", "--json", "--socket", socket)
	x := decode[connectd.Decision](t, got).Explanation
	if x == nil || len(x.Considered) != 2 || !x.Considered[1].Matched || !strings.Contains(got.out, `"considered": [`) {
		t.Errorf("got %s", got.out)
	}
}
