package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// caller makes round trips over one connection, one at a time.
type caller interface {
	// ask makes one round trip and returns the answer, which is valid until the
	// next one.
	ask() ([]byte, error)
	Close() error
}

// peer is one thing that is measured.
type peer struct {
	name    string
	callers []caller
	// rounds has the result of each round.
	rounds []sample
}

// sample is what one round of one peer gave.
type sample struct{ p50, p99 time.Duration }

// plan says how much is measured.
type plan struct {
	Rounds   int `json:"rounds"`
	Requests int `json:"requests"`
	Callers  int `json:"callers"`
}

func (p plan) check() error {
	if p.Rounds < 1 || p.Requests < 1 || p.Callers < 1 {
		return fmt.Errorf("--rounds, --requests and --callers are at least 1")
	}
	return nil
}

// run lets the peers take turns, each round beginning with another one.
func (p plan) run(ctx context.Context, peers []*peer, show progress) error {
	defer show.say("")
	for _, one := range peers {
		if _, err := one.round(ctx, max(p.Requests/10, 1)); err != nil {
			return fmt.Errorf("warm up %s: %w", one.name, err)
		}
	}
	for n := range p.Rounds {
		show.say("round %d of %d", n+1, p.Rounds)
		for i := range peers {
			one := peers[(n+i)%len(peers)]
			s, err := one.round(ctx, p.Requests)
			if err != nil {
				return fmt.Errorf("measure %s: %w", one.name, err)
			}
			one.rounds = append(one.rounds, s)
		}
	}
	return nil
}

// round makes requests on all callers at once.
func (p *peer) round(ctx context.Context, requests int) (sample, error) {
	took := make([][]time.Duration, len(p.callers))
	g, ctx := errgroup.WithContext(ctx)
	for i, c := range p.callers {
		took[i] = make([]time.Duration, 0, requests)
		g.Go(func() error {
			for range requests {
				begin := time.Now()
				if _, err := c.ask(); err != nil {
					return err
				}
				took[i] = append(took[i], time.Since(begin))
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return sample{}, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return sample{p50: all[len(all)/2], p99: all[len(all)*99/100]}, nil
}

func (p *peer) close() {
	for _, c := range p.callers {
		_ = c.Close()
	}
}

// median of an even count is the lower of the two in the middle.
func median[T float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

func (p *peer) median(of func(sample) time.Duration) time.Duration {
	var values []time.Duration
	for _, s := range p.rounds {
		values = append(values, of(s))
	}
	return median(values)
}

// slower returns how many times slower p is than base: the median over the
// rounds, because noise hits the two of one round alike.
func (p *peer) slower(base *peer) float64 {
	if base == nil {
		return 0
	}
	var ratios []float64
	for i, s := range p.rounds {
		ratios = append(ratios, float64(s.p50)/float64(base.rounds[i].p50))
	}
	return median(ratios)
}
