package consul

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

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
	// leafWorkers bounds the plain reads of one kind under way, heldLeaves the
	// held ones: one HTTP/2 connection carries about 200.
	leafWorkers = 2
	heldLeaves  = 180
	// All requests for leaves pause this long when Consul throttles, or when
	// many services in a row fail: then it is not about one of them.
	leastRest, mostRest = 3 * time.Second, 10 * time.Second
	manyServices        = 4
	// frozenAfter is how long after a rotation an agent that still answers with
	// leaves of the old root is reported.
	frozenAfter = 10 * time.Minute
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
	// first carries requests for services without a good leaf, renewals those
	// that replace one, holds the blocking ones. They are apart so that many
	// renewals do not keep a new service waiting, nor the reverse.
	first, renewals, holds lane
	// failing holds the services that failed since the last success, rests
	// the pauses that this costs, and resume is when the present one ends.
	failing   map[intentions.Service]bool
	throttled bool
	rests     *backoff.ExponentialBackOff
	resume    time.Time
	// root is the signing key for which the states were scheduled, rotated
	// when it became active.
	root    string
	rotated time.Time
}

// lane bounds one kind of request: how many are under way, and how often one
// may start where pace is set.
type lane struct {
	limit, busy int
	pace        *rate.Limiter
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
	lane  *lane
}

func newLeaves(s *Source, feed cache.Feed) *leaves {
	return &leaves{
		s: s, feed: feed, states: map[intentions.Service]*leafState{}, results: make(chan leafResult),
		first:    lane{limit: leafWorkers, pace: s.signatures},
		renewals: lane{limit: leafWorkers, pace: rate.NewLimiter(servicesPerSecond, 1)},
		holds:    lane{limit: heldLeaves},
		failing:  map[intentions.Service]bool{},
		rests:    newPauses(leastRest, mostRest),
	}
}

// run schedules until ctx ends and no request is under way.
func (l *leaves) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		rooted, woken := l.s.rooted.wait(), l.s.woken.wait()
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
		case <-woken:
			l.wake(time.Now())
		case <-timer.C:
		case <-ctx.Done():
			for l.first.busy+l.renewals.busy+l.holds.busy > 0 {
				(<-l.results).lane.busy--
			}
			return nil
		}
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
			st := &leafState{service: w.Service, have: w.Have, pauses: newPauses(time.Second, time.Minute)}
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

// newPauses makes growing pauses, each by chance up to half longer or shorter.
func newPauses(first, longest time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.RandomizationFactor = first, longest, 0.5
	return b
}

// schedule sets when a leaf is due by its own dates, or soon where it came
// with an older root than the one that the others were scheduled for.
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
	if l.root != "" && !l.current(st) {
		st.due = earlier(st.due, now.Add(time.Duration(rand.Float64()*float64(minSpread))))
	}
}

// spread makes the leaves of an older root due after a rotation, those with
// the least remaining life first.
func (l *leaves) spread(now time.Time) {
	b := l.s.bundle.Load()
	if b == nil || b.Active() == nil || b.Active().SigningKeyID == l.root {
		return
	}
	l.root, l.rotated = b.Active().SigningKeyID, now
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

// wake lets failing requests try again at once, unless Consul throttles.
func (l *leaves) wake(now time.Time) {
	if !l.throttled {
		l.resume = now
		l.rests.Reset()
	}
	for _, st := range l.states {
		if st.failing && !st.inFlight {
			st.due = earlier(st.due, now)
		}
	}
}

// next returns the state that is due first among those whose request could
// start, or nil.
func (l *leaves) next(now time.Time) *leafState {
	var first *leafState
	for _, st := range l.states {
		if !st.inFlight && (first == nil || st.before(first, now)) && l.laneOf(st, now).room() {
			first = st
		}
	}
	return first
}

// before orders the states. Of two that are due the one that does not fail
// goes first: failing ones are due again and again, and could take every turn.
func (st *leafState) before(other *leafState, now time.Time) bool {
	if st.failing != other.failing && !st.due.After(now) && !other.due.After(now) {
		return other.failing
	}
	if !st.due.Equal(other.due) {
		return st.due.Before(other.due)
	}
	return st.service.Name < other.service.Name
}

func (x *lane) room() bool { return x.busy < x.limit }

// laneOf tells how a leaf is asked for now. The query is held over HTTP/2 for
// a leaf that is current; where there are more of these than can be held, the
// others wait until a plain read would renew them.
func (l *leaves) laneOf(st *leafState, now time.Time) *lane {
	switch {
	case st.have == nil || st.have.Expired(now):
		return &l.first
	case l.s.endpoint.multiplexed() && l.current(st) && (l.holds.room() || st.have.Spent(now) < renewFrom):
		return &l.holds
	}
	return &l.renewals
}

// untilDue is how long the loop may sleep. A result, a bundle or a new want
// wakes it.
func (l *leaves) untilDue(now time.Time) time.Duration {
	if l.s.bundle.Load() == nil {
		return time.Minute
	}
	st := l.next(now)
	if st == nil {
		return time.Minute
	}
	return min(max(0, st.due.Sub(now), l.resume.Sub(now)), time.Minute)
}

// dispatch starts what is due and has room.
func (l *leaves) dispatch(ctx context.Context, now time.Time) {
	if l.s.bundle.Load() == nil || now.Before(l.resume) {
		return
	}
	for {
		st := l.next(now)
		if st == nil || st.due.After(now) {
			return
		}
		x := l.laneOf(st, now)
		st.inFlight = true
		x.busy++
		go l.fetch(ctx, st, st.have, x)
	}
}

// fetch does one request and always sends one result.
func (l *leaves) fetch(ctx context.Context, st *leafState, have *cache.Leaf, x *lane) {
	r := leafResult{state: st, lane: x}
	if x == &l.holds {
		r.leaf, r.err = l.s.fetchLeaf(ctx, st.service, have.ModifyIndex, holdWait)
	} else if r.err = x.pace.Wait(ctx); r.err == nil {
		r.leaf, r.err = l.s.fetchLeaf(ctx, st.service, 0, 0)
	}
	l.results <- r
}

// finish judges a result and sets when the leaf is due again.
func (l *leaves) finish(ctx context.Context, r leafResult) {
	st, now := r.state, time.Now()
	st.inFlight = false
	r.lane.busy--
	if ctx.Err() != nil || l.states[st.service] != st {
		return
	}
	l.judge(st, r.err, now)
	if r.err == nil && l.isNews(st, r.leaf, now) {
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
	if r.err == nil && r.lane == &l.holds {
		// The wait ran out and nothing changed; ask again.
		st.due = now.Add(idlePause)
		l.report(ctx, st, nil, now)
		return
	}
	st.due = now.Add(st.pauses.NextBackOff())
	l.report(ctx, st, r.err, now)
}

// judge decides from a result whether all requests for leaves have to rest.
func (l *leaves) judge(st *leafState, err error, now time.Time) {
	if err == nil {
		clear(l.failing)
		l.throttled = false
		l.rests.Reset()
		return
	}
	l.failing[st.service] = true
	l.throttled = hasKind(err, cache.FailureThrottled)
	if (l.throttled || len(l.failing) >= manyServices) && !now.Before(l.resume) {
		l.resume = now.Add(l.rests.NextBackOff())
	}
}

// isNews reports whether a leaf is to be taken: another one than we have,
// signed by the active root, and not an older one of that root. If what we
// have is about to end, any good leaf is better.
func (l *leaves) isNews(st *leafState, leaf *cache.Leaf, now time.Time) bool {
	switch {
	case st.have == nil:
		return true
	case leaf.CertPEM == st.have.CertPEM:
		return false
	case st.have.Spent(now) >= warnAt && leaf.NotAfter.After(st.have.NotAfter):
		return true
	}
	return leaf.SignedBy(l.s.bundle.Load().Active()) &&
		(!l.current(st) || !leaf.NotBefore.Before(st.have.NotBefore))
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
	case st.have != nil && !l.current(st) && now.Sub(l.rotated) > frozenAfter:
		x.Failure = invalid("the agent does not replace the leaf of an older root, which ends %s; "+
			"is the agent's cache frozen? Restarting it helps", st.have.NotAfter.Format(time.RFC3339))
	}
	if x.Failure != nil && st.have != nil && st.have.Spent(now) >= criticalAt {
		x.Failure.Message = "critical: " + x.Failure.Message
	}
	st.failing = x.Failure != nil
	_ = l.feed.Publish(ctx, cache.Update{Conditions: []cache.Condition{x}})
}
