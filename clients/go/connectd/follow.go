package connectd

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// leastPause bounds how often a daemon that never blocks is asked.
	leastPause = 20 * time.Millisecond
	// askWithin bounds the wait for a decision that only the daemon can make:
	// a handshake or request waits with it.
	askWithin = time.Second
	tickEvery = time.Second
)

// follow keeps the snapshot current until ctx ends.
func (s *Source) follow(ctx context.Context) {
	backoff := firstBackoff
	for ctx.Err() == nil {
		began := time.Now()
		next, err := s.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.failed(err)
			pause(ctx, retryAfter(err, backoff))
			backoff = min(2*backoff, lastBackoff)
			continue
		}
		s.recovered(next)
		s.publish(next)
		backoff = firstBackoff
		pause(ctx, leastPause-time.Since(began))
	}
}

// fetch asks for a snapshot other than the present one.
func (s *Source) fetch(ctx context.Context) (*Snapshot, error) {
	r, err := ofService(s.service.String(), "/v1/services/", "/snapshot")
	if err != nil {
		return nil, err
	}
	before := s.Snapshot()
	var index uint64
	if before != nil {
		index = before.index
		if before.leaf != nil && before.leaf.serial != "" {
			r.query.Set("have_leaf", before.leaf.serial)
		}
	}
	// After trouble the answer must come at once, unchanged or not: it is the
	// sign that all is well again.
	if s.Err() != nil {
		index = 0
	}
	body, err := s.client.exchange(ctx, r.blocking(index, 0))
	if err != nil {
		return nil, err
	}
	next, err := readSnapshot(body, s, before)
	if err != nil {
		return nil, invalidAnswer("the snapshot of %s from %s is not used: %v; are daemon and client of the same release?",
			s.service, s.client.socket, err)
	}
	return next, nil
}

// readSnapshot reads one answer and ties it to its source.
func readSnapshot(body []byte, s *Source, before *Snapshot) (*Snapshot, error) {
	var in snapshotWire
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, errors.New(decodeTrouble(err))
	}
	next, err := parseSnapshot(&in, s.service, before)
	if err != nil {
		return nil, err
	}
	next.age.now = &s.clock
	next.age.confirmed = s.elapsed() - time.Duration(in.AgeSeconds*float64(time.Second))
	next.ask = s.ask
	return next, nil
}

// ask has the daemon decide.
func (s *Source) ask(q Question) Decision {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	d, err := s.client.Authorize(ctx, q)
	if err != nil {
		return Decision{Decision: Deny, Reason: ReasonUnreachable}
	}
	return d
}

// failed logs a failure when its kind changes, not at each attempt.
func (s *Source) failed(err error) {
	if before := s.Err(); before == nil || errorCode(before) != errorCode(err) {
		s.options.logger.Warn("connectd: no new snapshot; what is known is used until it is too old",
			"service", s.service.String(), "code", errorCode(err), "error", err.Error(), "have_snapshot", s.Snapshot() != nil)
	}
	s.fail(err)
}

func (s *Source) recovered(next *Snapshot) {
	if s.Err() != nil {
		s.options.logger.Info("connectd: snapshots are current again", "service", s.service.String(), "index", next.index)
	}
}

func errorCode(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// retryAfter spreads the retries of many processes, and respects what the
// daemon asks for.
func retryAfter(err error, backoff time.Duration) time.Duration {
	d := backoff/2 + rand.N(backoff/2+1)
	var e *Error
	if errors.As(err, &e) {
		d = max(d, min(e.RetryAfter, lastBackoff))
	}
	return d
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// tick keeps the clock, and with it the age of the snapshot, current until ctx
// ends: no answer has to come for a snapshot to become too old.
func (s *Source) tick(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	stale := false
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		s.elapsed()
		if now := s.Snapshot(); now != nil && now.Stale() != stale {
			if stale = !stale; stale {
				s.options.logger.Error("connectd: the policy is too old, so every decision is deny; run: connectd status",
					"service", s.service.String(), "reason", ReasonPolicyStale)
				s.revoke()
			}
		}
		s.connections.sweep()
		s.denials.minute()
	}
}
