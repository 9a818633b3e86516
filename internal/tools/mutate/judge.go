package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// judge prints what came out, and returns an error if a mutant survived that
// is not accepted, or if one is accepted that does not exist.
func judge(w io.Writer, all []mutant, results map[string]result, accepted map[string]string) error {
	count := map[result]int{}
	var open, settled []mutant
	known := map[string]bool{}
	for _, m := range all {
		known[m.key()] = true
		got, tried := results[m.key()]
		if !tried {
			continue
		}
		count[got]++
		_, may := accepted[m.key()]
		switch {
		case got == survived && may:
			settled = append(settled, m)
		case got == survived:
			open = append(open, m)
		case may:
			fmt.Fprintf(w, "accepted, but noticed this time: %s\n", m)
		}
	}
	list(w, "Survivors that are accepted", settled)
	list(w, "Survivors", open)
	noticed := count[killed] + count[timedOut]
	fmt.Fprintf(w, "\n%d mutants: %d killed, %d timed out, %d survived (%d of them accepted); %d more do not compile\n",
		noticed+count[survived], count[killed], count[timedOut], count[survived], len(settled), count[invalid])
	if real := noticed + len(open); real > 0 {
		fmt.Fprintf(w, "%.1f %% of those that are not accepted were noticed\n", 100*float64(noticed)/float64(real))
	}
	for _, key := range slices.Sorted(maps.Keys(accepted)) {
		if !known[key] {
			return fmt.Errorf("accepted, but there is no such mutant: %s", key)
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("%d mutants survived: test what they change, or accept them with a reason", len(open))
	}
	return nil
}

func list(w io.Writer, title string, mutants []mutant) {
	if len(mutants) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s:\n", title)
	for _, m := range mutants {
		fmt.Fprintf(w, "  %s\n", m)
	}
}
