package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Targets of authorize over HTTP, as ratios.
const (
	mostOfBare    = 1.1
	leastOfConsul = 1.5
)

// authorizeReport is the result of one run. Ratios are those of p50, the
// median over the rounds.
type authorizeReport struct {
	Machine machine `json:"machine"`
	plan
	Peers []peerReport `json:"peers"`
}

type peerReport struct {
	Name string        `json:"name"`
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	// OfBare and OfEcho tell how many times longer a round trip takes.
	OfBare float64 `json:"times_bare_http"`
	OfEcho float64 `json:"times_echo"`
	// FasterThanConsul is absent where Consul did not run.
	FasterThanConsul float64 `json:"faster_than_consul,omitempty"`
}

func newAuthorizeReport(m machine, p plan, peers []*peer) *authorizeReport {
	named := map[string]*peer{}
	for _, one := range peers {
		named[one.name] = one
	}
	r := &authorizeReport{Machine: m, plan: p}
	for _, one := range peers {
		report := peerReport{
			Name:   one.name,
			P50:    one.median(func(s sample) time.Duration { return s.p50 }),
			P99:    one.median(func(s sample) time.Duration { return s.p99 }),
			OfBare: one.slower(named[nameBare]), OfEcho: one.slower(named[nameEcho]),
		}
		if consul := named[nameConsul]; consul != nil {
			report.FasterThanConsul = consul.slower(one)
		}
		r.Peers = append(r.Peers, report)
	}
	return r
}

func (r *authorizeReport) print(w io.Writer) error {
	r.Machine.print(w)
	fmt.Fprintf(w, "One question for each round trip; medians of %d rounds with %d round trips of each of %d callers.\n\n",
		r.Rounds, r.Requests, r.Callers)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "p50\tp99\t/ bare HTTP\t/ echo\tfaster than Consul\t  \t")
	for _, p := range r.Peers {
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%s\t  %s\n", micros(p.P50), micros(p.P99), p.OfBare, p.OfEcho, times(p.FasterThanConsul), p.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	own := r.Peers[0]
	fmt.Fprintf(w, "\nTargets for %s:\n", own.Name)
	fmt.Fprintf(w, "  at most %.1fx the bare handler: %.2fx, %s\n", mostOfBare, own.OfBare, met(own.OfBare <= mostOfBare))
	if own.FasterThanConsul > 0 {
		fmt.Fprintf(w, "  at least %.1fx faster than Consul: %.2fx, %s\n",
			leastOfConsul, own.FasterThanConsul, met(own.FasterThanConsul >= leastOfConsul))
	} else {
		fmt.Fprintf(w, "  at least %.1fx faster than Consul: not measured; give --consul or %s\n", leastOfConsul, consulVariable)
	}
	return nil
}

func met(yes bool) string {
	if yes {
		return "met"
	}
	return "missed"
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d)/1e3) }

func times(ratio float64) string {
	if ratio == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fx", ratio)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
