package main

import (
	"fmt"
	"io"

	"github.com/connectd/connectd/clients/go/connectd"
)

// maxPassedOver is how many rules that do not match are shown unasked.
const maxPassedOver = 5

func printDecision(w io.Writer, f *authorizeFlags, d *connectd.Decision) error {
	fmt.Fprintf(w, "%s: %s\n\n", d.Decision, oneLine(verdictText(f, d)))
	t := newTable(w)
	t.row("reason", d.Reason+": "+reasonText(d.Reason))
	if m := d.Matched; m != nil {
		rule := fmt.Sprintf("%s (%s -> %s), precedence %d", m.Rule, m.Source, m.Destination, m.Precedence)
		if m.Permission != nil {
			rule += fmt.Sprintf(", permission %d", *m.Permission+1)
		}
		t.row("rule", rule)
	}
	x := d.Explanation
	if x == nil {
		x = &connectd.Explanation{}
	}
	if d.Reason == "default_action" && x.DefaultAction != "" {
		t.row("default", x.DefaultAction+" ("+originText(x.DefaultOrigin)+")")
	}
	if len(x.PathReadings) > 1 {
		t.row("path", fmt.Sprintf("read as %q or as %q", x.PathReadings[0], x.PathReadings[1]))
	}
	if d.Via != "" {
		t.row("via", d.Via)
	}
	t.row("policy", confirmed(d.Freshness, d.AgeSeconds))
	if err := t.flush(); err != nil || len(x.Considered) == 0 {
		return err
	}
	fmt.Fprintln(w, "\nconsidered:")
	return printConsidered(w, x, f)
}

// printConsidered lists the rules that were passed over, each with its cause,
// and then the deciding one with its permissions.
func printConsidered(w io.Writer, x *connectd.Explanation, f *authorizeFlags) error {
	passed, deciding := x.Considered, []connectd.ConsideredRule(nil)
	if last := len(passed) - 1; passed[last].Matched {
		passed, deciding = passed[:last], passed[last:]
	}
	hidden, remedy := x.NotListed, "connectd policy "+f.destination
	if more := len(passed) - maxPassedOver; more > 0 && !f.verbose {
		hidden, remedy = hidden+more, "--verbose"
		passed = passed[:maxPassedOver]
	}
	t := newTable(w)
	for _, r := range passed {
		t.row("  "+r.Rule, r.Source+" -> "+r.Destination, r.Why)
	}
	if hidden > 0 {
		t.row("  ...", plural(hidden, "more rule"), "for other sources too; see "+remedy)
	}
	for _, r := range deciding {
		t.row("  "+r.Rule, r.Source+" -> "+r.Destination, matchesText(true, r.Why))
		for n, p := range r.Permissions {
			t.row("", fmt.Sprintf("  %d. %s", n+1, p.Action), matchesText(p.Matched, p.Why))
		}
	}
	return t.flush()
}

func matchesText(matched bool, why string) string {
	switch {
	case !matched:
		return why
	case why != "":
		return "matches: " + why
	}
	return "matches"
}
