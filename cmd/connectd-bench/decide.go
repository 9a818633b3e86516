package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/intentions"
)

// mostOfMap is the target: a decision takes at most so many map lookups.
const mostOfMap = 5

const benchTrustDomain = "11111111-2222-3333-4444-555555555555.consul"

func newDecide() *cobra.Command {
	var sizes []int
	var rounds, lookups int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "decide",
		Short: "Decisions in the process, beside lookups of the same names in a Go map",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rounds < 1 || lookups < 1 {
				return fmt.Errorf("--rounds and --lookups are at least 1")
			}
			show := newProgress(cmd.ErrOrStderr())
			r := &decideReport{Machine: thisMachine(""), Rounds: rounds, Lookups: lookups}
			for _, n := range sizes {
				if n < 1 {
					return fmt.Errorf("--sizes has %d; at least 1 intention is needed", n)
				}
				show.say("%d intentions", n)
				one, err := measureDecide(cmd.Context(), n, rounds, lookups)
				if err != nil {
					return err
				}
				r.Sizes = append(r.Sizes, one)
			}
			show.say("")
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), r)
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&sizes, "sizes", []int{10, 1000, 100_000}, "numbers of intentions of one destination")
	f.IntVar(&rounds, "rounds", 20, "rounds in which both take turns")
	f.IntVar(&lookups, "lookups", 200_000, "decisions in a round")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// decideReport is the result of one run, medians over the rounds.
type decideReport struct {
	Machine machine      `json:"machine"`
	Rounds  int          `json:"rounds"`
	Lookups int          `json:"lookups"`
	Sizes   []sizeReport `json:"sizes"`
}

type sizeReport struct {
	Intentions  int     `json:"intentions"`
	Decide      float64 `json:"decide_ns"`
	Map         float64 `json:"map_ns"`
	OfMap       float64 `json:"times_map"`
	Allocations float64 `json:"allocations"`
}

// field is one destination with many intentions, and the sources to ask about.
type field struct {
	table *intentions.Table
	names map[string]bool
	// uris and asked are the same sources in the same order: as they stand in
	// certificates, and as bare names that share no memory with the map's.
	uris, asked []string
}

// maxAsked bounds the sources that are asked about in turn.
const maxAsked = 1 << 16

func newField(n int) *field {
	f := &field{names: make(map[string]bool, n)}
	rows := make([]intentions.Intention, 0, n)
	for i := range n {
		name := fmt.Sprintf("service-%06d", i)
		f.names[name] = i%2 == 0
		action := map[bool]string{true: "allow", false: "deny"}[i%2 == 0]
		rows = append(rows, intentions.Intention{SourceName: name, DestinationName: "db", Action: action, Precedence: 9})
	}
	policy, _ := intentions.NewPolicy(intentions.NewService("db"), benchTrustDomain, intentions.DefaultAction{}, rows)
	f.table = intentions.Compile(policy)
	// A fixed order, so that runs can be compared, without neighbours in memory
	// following each other.
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	for i := range max(n, min(maxAsked, 1000)) {
		if i == maxAsked {
			break
		}
		name := rows[order[i%n]].SourceName
		f.asked = append(f.asked, strings.Clone(name))
		f.uris = append(f.uris, "spiffe://"+benchTrustDomain+"/ns/default/dc/dc1/svc/"+name)
	}
	return f
}

func measureDecide(ctx context.Context, n, rounds, lookups int) (sizeReport, error) {
	f := newField(n)
	for i, name := range f.asked {
		if d := f.table.DecideURI(f.uris[i], nil); d.Allowed() != f.names[name] || d.Reason != intentions.ReasonIntention {
			return sizeReport{}, fmt.Errorf("decide %s: got %s by %s", f.uris[i], d.Outcome, d.Reason)
		}
	}
	var decide, lookup, ratios []float64
	for range rounds {
		if err := ctx.Err(); err != nil {
			return sizeReport{}, err
		}
		a, b := f.timeDecide(lookups), f.timeMap(lookups)
		decide, lookup, ratios = append(decide, a), append(lookup, b), append(ratios, a/b)
	}
	next := 0
	allocations := testing.AllocsPerRun(1000, func() {
		f.table.DecideURI(f.uris[next], nil)
		next = (next + 1) % len(f.uris)
	})
	return sizeReport{Intentions: n, Decide: median(decide), Map: median(lookup), OfMap: median(ratios), Allocations: allocations}, nil
}

// timeDecide returns nanoseconds for each decision. What is found is counted,
// so that no compiler leaves the work out.
func (f *field) timeDecide(lookups int) float64 {
	allowed, at := 0, 0
	begin := time.Now()
	for range lookups {
		if f.table.DecideURI(f.uris[at], nil).Allowed() {
			allowed++
		}
		if at++; at == len(f.uris) {
			at = 0
		}
	}
	return perOne(begin, lookups, allowed)
}

func (f *field) timeMap(lookups int) float64 {
	allowed, at := 0, 0
	begin := time.Now()
	for range lookups {
		if f.names[f.asked[at]] {
			allowed++
		}
		if at++; at == len(f.asked) {
			at = 0
		}
	}
	return perOne(begin, lookups, allowed)
}

func perOne(begin time.Time, lookups, allowed int) float64 {
	took := time.Since(begin)
	if allowed > lookups {
		panic("more was allowed than asked")
	}
	return float64(took.Nanoseconds()) / float64(lookups)
}

func (r *decideReport) print(w io.Writer) error {
	r.Machine.print(w)
	fmt.Fprintf(w, "Decisions on a source's URI without a request; medians of %d rounds with %d decisions.\n\n", r.Rounds, r.Lookups)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "intentions\tdecision\tmap lookup\t/ map\tallocations\ttarget\t")
	for _, s := range r.Sizes {
		fmt.Fprintf(t, "%d\t%.1f ns\t%.1f ns\t%.2f\t%.0f\tat most %dx: %s\t\n",
			s.Intentions, s.Decide, s.Map, s.OfMap, s.Allocations, mostOfMap, met(s.OfMap <= mostOfMap && s.Allocations == 0))
	}
	return t.Flush()
}
