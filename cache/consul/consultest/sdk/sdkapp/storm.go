package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/consul/connect"
)

// maxErrors and maxPending bound what a storm remembers and has under way.
const (
	maxErrors  = 5
	maxPending = 64
)

// A storm makes handshakes at a fixed rate until it is stopped.
type storm struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // guards result and serials
	result  stormResult
	serials map[string]bool
}

// A stormResult counts handshakes. Skipped are those not made because too many were under
// way; FailedAfterMS lists when the first failures were, counted from the start.
type stormResult struct {
	OK            int       `json:"ok"`
	Failed        int       `json:"failed"`
	Skipped       int       `json:"skipped"`
	Errors        []string  `json:"errors"` // different texts, at most five
	FailedAfterMS []float64 `json:"failed_after_ms"`
	PeerSerials   int       `json:"peer_serials"` // different leaves seen
}

func (a *app) startStorm(ctx context.Context, s *service, c command) (answer, error) {
	if s.storm != nil {
		return answer{}, errors.New("a storm is under way")
	}
	if c.Rate <= 0 {
		return answer{}, errors.New("a storm needs a rate")
	}
	resolver, err := a.resolver(ctx, c)
	if err != nil {
		return answer{}, err
	}
	running, cancel := context.WithCancel(context.Background())
	s.storm = &storm{cancel: cancel, done: make(chan struct{}), serials: make(map[string]bool)}
	go s.storm.run(running, s, resolver, time.Duration(float64(time.Second)/c.Rate), c.timeout())
	return answer{}, nil
}

// errNoStorm answers commands for a storm that is not there.
var errNoStorm = errors.New("no storm is under way")

func (s *service) stormStatus() (answer, error) {
	if s.storm == nil {
		return answer{}, errNoStorm
	}
	result := s.storm.status()
	return answer{Storm: &result}, nil
}

func (s *service) stopStorm() (answer, error) {
	if s.storm == nil {
		return answer{}, errNoStorm
	}
	result := s.storm.stop()
	s.storm = nil
	return answer{Storm: &result}, nil
}

// run returns after the last handshake. Handshakes under way when the storm is stopped are
// finished and counted.
func (st *storm) run(ctx context.Context, s *service, r connect.Resolver, every, timeout time.Duration) {
	defer close(st.done)
	var pending sync.WaitGroup
	defer pending.Wait()
	slots := make(chan struct{}, maxPending)
	tick := time.NewTicker(every)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			st.skip()
			continue
		}
		pending.Go(func() {
			defer func() { <-slots }()
			dialing, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			began := time.Since(start)
			st.count(s.shakeHands(dialing, r), began)
		})
	}
}

func (st *storm) skip() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.result.Skipped++
}

func (st *storm) count(a answer, began time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if a.PeerSerial != "" {
		st.serials[a.PeerSerial] = true
	}
	if a.Accepted {
		st.result.OK++
		return
	}
	st.result.Failed++
	if len(st.result.FailedAfterMS) < maxErrors {
		st.result.FailedAfterMS = append(st.result.FailedAfterMS, float64(began.Milliseconds()))
	}
	if len(st.result.Errors) < maxErrors && !slices.Contains(st.result.Errors, a.Error) {
		st.result.Errors = append(st.result.Errors, a.Error)
	}
}

// status is a copy of the counts.
func (st *storm) status() stormResult {
	st.mu.Lock()
	defer st.mu.Unlock()
	result := st.result
	result.Errors = slices.Clone(result.Errors)
	result.FailedAfterMS = slices.Clone(result.FailedAfterMS)
	result.PeerSerials = len(st.serials)
	return result
}

func (st *storm) stop() stormResult {
	st.cancel()
	<-st.done
	return st.status()
}
