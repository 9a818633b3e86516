package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// target is a bound on one figure of a row.
type target struct {
	of   string
	most float64
}

// What targets are about.
const (
	ofMap         = "map"
	ofNanoseconds = "ns"
	ofAllocations = "allocations"
)

var requestTargets = []target{{ofNanoseconds, 500}, {ofAllocations, 0}}

// fieldTargets returns those of a decision on a connection. Times are only
// named for two sizes.
func fieldTargets(n int) []target {
	list := []target{{ofMap, 5}}
	switch n {
	case 1000:
		list = append(list, target{ofNanoseconds, 80})
	case 100_000:
		list = append(list, target{ofNanoseconds, 120})
	}
	return append(list, target{ofAllocations, 0})
}

// decideReport is the result of one run, medians over the rounds.
type decideReport struct {
	Machine machine       `json:"machine"`
	Rounds  int           `json:"rounds"`
	Slice   time.Duration `json:"slice_ns"`
	Rows    []rowReport   `json:"rows"`
}

type rowReport struct {
	Name        string  `json:"name"`
	Time        float64 `json:"ns"`
	Allocations float64 `json:"allocations"`
	// Base names the row that TimesBase compares with.
	Base      string         `json:"base,omitempty"`
	TimesBase float64        `json:"times_base,omitempty"`
	Targets   []targetReport `json:"targets,omitempty"`
}

type targetReport struct {
	Of   string  `json:"of"`
	Most float64 `json:"most"`
	Met  bool    `json:"met"`
}

func newDecideReport(rows []*row, rounds int, slice time.Duration) *decideReport {
	r := &decideReport{Machine: thisMachine(""), Rounds: rounds, Slice: slice}
	for _, one := range rows {
		report := rowReport{Name: one.name, Time: median(one.times), Allocations: one.allocations, TimesBase: one.ofBase()}
		if one.base != nil {
			report.Base = one.base.name
		}
		for _, t := range one.targets {
			got := map[string]float64{ofMap: report.TimesBase, ofNanoseconds: report.Time, ofAllocations: report.Allocations}[t.of]
			report.Targets = append(report.Targets, targetReport{t.of, t.most, got <= t.most})
		}
		r.Rows = append(r.Rows, report)
	}
	return r
}

func (r *decideReport) print(w io.Writer) error {
	r.Machine.print(w)
	fmt.Fprintf(w, "One decision from the text of a source's SPIFFE ID; medians of %d rounds with %s of each row.\n\n", r.Rounds, r.Slice)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "time\tallocations\tratio\t  \t")
	for _, one := range r.Rows {
		fmt.Fprintf(t, "%.1f ns\t%.0f\t%s\t  %s\n", one.Time, one.Allocations, times(one.TimesBase), one.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nThe ratio of a decision is to the map lookup, that of Open Policy Agent to the decision.\n\nTargets:")
	for _, one := range r.Rows {
		if len(one.Targets) == 0 {
			continue
		}
		var words []string
		for _, t := range one.Targets {
			words = append(words, t.text()+": "+met(t.Met))
		}
		fmt.Fprintf(w, "  %s: %s\n", one.Name, strings.Join(words, "; "))
	}
	return nil
}

func (t targetReport) text() string {
	switch t.Of {
	case ofMap:
		return fmt.Sprintf("at most %.0fx the map", t.Most)
	case ofNanoseconds:
		return fmt.Sprintf("at most %.0f ns", t.Most)
	}
	return fmt.Sprintf("%.0f %s", t.Most, t.Of)
}
