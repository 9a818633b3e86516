package consul

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const (
	// A leaf is due at a random moment in this part of its life. On plain HTTP
	// a held query would cost a connection for each service, and the agent
	// signs a plain read only past 90 %.
	renewFrom, renewTo = 0.90, 0.95
	// holdFrom is the part of its life from which a leaf's query is held over
	// HTTP/2. Before it a held query could only cost a needless signature,
	// because an agent that restarted signs for every query.
	holdFrom = 0.60
	// holdWait is how long such a query is held: the agent draws a new moment
	// for the renewal at each call, so few calls spread best.
	holdWait = 5 * time.Minute
	// A rotation is spread over this long, or longer for many services.
	minSpread         = 30 * time.Second
	servicesPerSecond = 20
	// leafWorkers bounds the plain reads under way, heldLeaves the held ones:
	// one HTTP/2 connection carries about 200.
	leafWorkers = 2
	heldLeaves  = 180
	// throttled is the pause of all leaf requests when Consul throttles.
	throttled = 3 * time.Second
	// warnAt and criticalAt are the parts of a leaf's life at which a missing
	// renewal is reported.
	warnAt, criticalAt = 0.96, 0.98
)

// leaves schedules the requests for leaves. One goroutine owns it; workers
// send their results back.
type leaves struct {
	s       *Source
	feed    cache.Feed
	states  map[intentions.Service]*leafState
	results chan leafResult
	// busy and holding count the requests under way.
	busy, holding int
	// resume is when leaf requests may go on after throttling.
	resume time.Time
	// root is the signing key for which the states were scheduled.
	root string
}

// leafState is the schedule of one leaf.
type leafState struct {
	service  intentions.Service
	have     *cache.Leaf
	due      time.Time
	inFlight bool
	failing  bool
	pauses   *backoff.ExponentialBackOff
}

type leafResult struct {
	state *leafState
	leaf  *cache.Leaf
	err   error
	held  bool
}

func newLeaves(s *Source, feed cache.Feed) *leaves {
	return &leaves{
		s: s, feed: feed, states: map[intentions.Service]*leafState{}, results: make(chan leafResult),
	}
}

// run schedules until ctx ends and no request is under way.
func (l *leaves) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		rooted := l.s.rooted.wait()
		wants, changed := l.feed.Wanted()
		l.adopt(wants)
		l.spread(time.Now())
		l.dispatch(ctx, time.Now())
		timer.Reset(l.untilDue(time.Now()))
		select {
		case r := <-l.results:
			l.finish(ctx, r)
		case <-changed:
		case <-rooted:
		case <-l.s.woken.wait():
			l.wake(time.Now())
		case <-timer.C:
		case <-ctx.Done():
			for l.busy+l.holding > 0 {
				l.count((<-l.results).held, -1)
			}
			return nil
		}
	}
}

func (l *leaves) count(held bool, by int) {
	if held {
		l.holding += by
	} else {
		l.busy += by
	}
}

// adopt brings the states in line with the watched set.
func (l *leaves) adopt(wants []cache.Want) {
	wanted := make(map[intentions.Service]bool, len(wants))
	for _, w := range wants {
		if !w.Leaf {
			continue
		}
		wanted[w.Service] = true
		if l.states[w.Service] == nil {
			st := &leafState{service: w.Service, have: w.Have, pauses: newLeafPauses()}
			l.schedule(st, time.Now())
			l.states[w.Service] = st
		}
	}
	for service := range l.states {
		if !wanted[service] {
			delete(l.states, service)
		}
	}
}

func newLeafPauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.RandomizationFactor = time.Second, time.Minute, 0.5
	return b
}

// schedule sets when a leaf is due by its own dates.
func (l *leaves) schedule(st *leafState, now time.Time) {
	if st.have == nil {
		st.due = now
		return
	}
	part := renewFrom + rand.Float64()*(renewTo-renewFrom)
	if l.s.endpoint.multiplexed() {
		part = holdFrom
	}
	st.due = st.have.At(part)
}

// spread makes the leaves of an older root due after a rotation, those with
// the least remaining life first.
func (l *leaves) spread(now time.Time) {
	b := l.s.bundle.Load()
	if b == nil || b.Active() == nil || b.Active().SigningKeyID == l.root {
		return
	}
	l.root = b.Active().SigningKeyID
	var old []*leafState
	for _, st := range l.states {
		if st.have != nil && !st.have.SignedBy(b.Active()) {
			old = append(old, st)
		}
	}
	slices.SortFunc(old, func(x, y *leafState) int {
		return cmp.Or(x.have.NotAfter.Compare(y.have.NotAfter), cmp.Compare(x.service.Name, y.service.Name))
	})
	window := max(minSpread, time.Duration(len(old))*time.Second/servicesPerSecond)
	for i, st := range old {
		place := (float64(i) + rand.Float64()) / float64(len(old))
		st.due = earlier(st.due, now.Add(time.Duration(place*float64(window))))
		st.pauses.Reset()
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// wake lets failing requests try again at once.
func (l *leaves) wake(now time.Time) {
	for _, st := range l.states {
		if st.failing && !st.inFlight {
			st.due = earlier(st.due, now)
		}
	}
}

// next returns the state that is due first and not under way: the earliest,
// among equals the one whose leaf ends first.
func (l *leaves) next() *leafState {
	var first *leafState
	for _, st := range l.states {
		if !st.inFlight && (first == nil || st.before(first)) {
			first = st
		}
	}
	return first
}

func (st *leafState) before(other *leafState) bool {
	if !st.due.Equal(other.due) {
		return st.due.Before(other.due)
	}
	return st.service.Name < other.service.Name
}

func (l *leaves) untilDue(now time.Time) time.Duration {
	st := l.next()
	if st == nil || l.s.bundle.Load() == nil || !l.room(st, now) {
		// A result, a bundle or a new want wakes the loop.
		return time.Minute
	}
	return max(0, st.due.Sub(now), l.resume.Sub(now))
}

// room reports whether a request for the leaf may start.
func (l *leaves) room(st *leafState, now time.Time) bool {
	if l.heldNow(st, now) {
		return l.holding < heldLeaves
	}
	return l.busy < leafWorkers
}

// heldNow reports whether the request for the leaf is a held query: over
// HTTP/2, for a leaf that is current but in its renewal window.
func (l *leaves) heldNow(st *leafState, now time.Time) bool {
	b := l.s.bundle.Load()
	return l.s.endpoint.multiplexed() && st.have != nil && b != nil &&
		st.have.SignedBy(b.Active()) && !st.have.Expired(now) && l.holding < heldLeaves
}

// dispatch starts what is due and has room.
func (l *leaves) dispatch(ctx context.Context, now time.Time) {
	if l.s.bundle.Load() == nil || now.Before(l.resume) {
		return
	}
	for {
		st := l.next()
		if st == nil || st.due.After(now) || !l.room(st, now) {
			return
		}
		held := l.heldNow(st, now)
		st.inFlight = true
		l.count(held, 1)
		go l.fetch(ctx, st, st.have, held)
	}
}

// fetch does one request and always sends one result.
func (l *leaves) fetch(ctx context.Context, st *leafState, have *cache.Leaf, held bool) {
	r := leafResult{state: st, held: held}
	if held {
		r.leaf, r.err = l.s.fetchLeaf(ctx, st.service, have.ModifyIndex, holdWait)
	} else if r.err = l.s.signatures.Wait(ctx); r.err == nil {
		r.leaf, r.err = l.s.fetchLeaf(ctx, st.service, 0, 0)
	}
	l.results <- r
}

// finish judges a result and sets when the leaf is due again.
func (l *leaves) finish(ctx context.Context, r leafResult) {
	st, now := r.state, time.Now()
	st.inFlight = false
	l.count(r.held, -1)
	if ctx.Err() != nil || l.states[st.service] != st {
		return
	}
	if r.err == nil && l.isNews(st, r.leaf) {
		if l.feed.Publish(ctx, cache.Update{Leaf: r.leaf, Conditions: []cache.Condition{l.healthy(st)}}) != nil {
			return
		}
		st.have = r.leaf
		st.pauses.Reset()
		l.schedule(st, now)
		if l.current(st) {
			return
		}
	}
	if r.err == nil && r.held && !st.due.After(now) {
		// The wait ran out and nothing changed; ask again.
		st.due = now.Add(idlePause)
		l.report(ctx, st, nil, now)
		return
	}
	st.due = now.Add(st.pauses.NextBackOff())
	if hasKind(r.err, cache.FailureThrottled) {
		l.resume = now.Add(throttled)
	}
	l.report(ctx, st, r.err, now)
}

// isNews reports whether a leaf is to be taken: another one than we have, and
// signed by the active root unless any leaf is better than none.
func (l *leaves) isNews(st *leafState, leaf *cache.Leaf) bool {
	if st.have == nil {
		return true
	}
	return leaf.CertPEM != st.have.CertPEM && leaf.SignedBy(l.s.bundle.Load().Active())
}

// current reports whether the leaf is signed by the active root.
func (l *leaves) current(st *leafState) bool {
	return st.have.SignedBy(l.s.bundle.Load().Active())
}

func (l *leaves) healthy(st *leafState) cache.Condition {
	st.failing = false
	return cache.Condition{Watch: cache.WatchLeaf, Service: st.service}
}

// report turns the outcome of an attempt that brought no new leaf into a
// condition: an error, or a renewal that is overdue.
func (l *leaves) report(ctx context.Context, st *leafState, err error, now time.Time) {
	x := l.healthy(st)
	switch {
	case err != nil:
		x.Failure = asFailure(err)
	case st.have != nil && st.have.Spent(now) >= warnAt:
		x.Failure = invalid("the agent does not renew the leaf, which ends %s", st.have.NotAfter.Format(time.RFC3339))
	}
	if x.Failure != nil && st.have != nil && st.have.Spent(now) >= criticalAt {
		x.Failure.Message = "critical: " + x.Failure.Message
	}
	st.failing = x.Failure != nil
	_ = l.feed.Publish(ctx, cache.Update{Conditions: []cache.Condition{x}})
}
