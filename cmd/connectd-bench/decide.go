package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

const benchTrustDomain = "11111111-2222-3333-4444-555555555555.consul"

func newDecide() *cobra.Command {
	var sizes, opaSizes []int
	var rounds int
	var slice time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "decide",
		Short: "Decisions in the process, beside lookups of the same names in a Go map and beside Open Policy Agent",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rounds < 1 || slice <= 0 {
				return fmt.Errorf("--rounds is at least 1, and --slice longer than nothing")
			}
			show := newProgress(cmd.ErrOrStderr())
			rows, err := decideRows(cmd.Context(), sizes, opaSizes)
			if err != nil {
				return err
			}
			if err := runRows(cmd.Context(), rows, rounds, slice, show); err != nil {
				return err
			}
			r := newDecideReport(rows, rounds, slice)
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), r)
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&sizes, "sizes", []int{10, 1000, 100_000}, "numbers of intentions of one destination")
	f.IntSliceVar(&opaSizes, "opa-sizes", []int{10, 1000}, "numbers of intentions for Open Policy Agent, each one of --sizes too")
	f.IntVar(&rounds, "rounds", 20, "rounds in which all take turns")
	f.DurationVar(&slice, "slice", 10*time.Millisecond, "time of each row in a round")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// row is one thing that is measured.
type row struct {
	name string
	// base is the row that this one is compared with, if any.
	base    *row
	targets []target
	// decide makes so many decisions and returns how many allowed, so that no
	// compiler leaves the work out.
	decide func(count int) int

	count       int
	allocations float64
	// times has nanoseconds for each decision, one value for each round.
	times []float64
}

// decideRows prepares everything that is measured, and makes sure that each
// row decides what it should: a fast mistake would look good.
func decideRows(ctx context.Context, sizes, opaSizes []int) ([]*row, error) {
	fields := map[int]*field{}
	var rows []*row
	for _, n := range sizes {
		if n < 1 {
			return nil, fmt.Errorf("--sizes has %d; at least 1 intention is needed", n)
		}
		fields[n] = newField(n)
		more, err := fields[n].rows()
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	more, err := requestRows()
	if err != nil {
		return nil, err
	}
	rows = append(rows, more...)
	for _, n := range opaSizes {
		if fields[n] == nil {
			return nil, fmt.Errorf("--opa-sizes has %d, which --sizes lacks", n)
		}
		more, err := fields[n].opaRows(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range more {
			r.base = decisionRow(rows, n)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func decisionRow(rows []*row, n int) *row {
	at := slices.IndexFunc(rows, func(r *row) bool { return r.name == decisionName(n) })
	return rows[at]
}

// runRows lets the rows take turns, each round beginning with another one.
func runRows(ctx context.Context, rows []*row, rounds int, slice time.Duration, show progress) error {
	defer show.say("")
	for _, r := range rows {
		r.prepare(slice)
	}
	for n := range rounds {
		show.say("round %d of %d", n+1, rounds)
		for i := range rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			r := rows[(n+i)%len(rows)]
			r.times = append(r.times, float64(r.time(r.count))/float64(r.count))
			if r.allocations > 0 {
				// Its garbage is not the next row's work.
				runtime.GC()
			}
		}
	}
	return nil
}

// prepare warms up, and finds how many decisions fill a slice.
func (r *row) prepare(slice time.Duration) {
	r.allocations = testing.AllocsPerRun(100, func() { r.decide(1) })
	for r.count = 1; r.time(r.count) < slice; r.count *= 2 {
	}
}

func (r *row) time(count int) time.Duration {
	begin := time.Now()
	allowed := r.decide(count)
	took := time.Since(begin)
	if allowed > count {
		panic("more was allowed than asked")
	}
	return took
}

// ofBase returns how many times longer r takes than its base: the median over
// the rounds, because noise hits the two of one round alike.
func (r *row) ofBase() float64 {
	if r.base == nil {
		return 0
	}
	var ratios []float64
	for i, took := range r.times {
		ratios = append(ratios, took/r.base.times[i])
	}
	return median(ratios)
}
