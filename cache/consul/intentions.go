package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const matchPath = "/v1/connect/intentions/match"

const (
	// namesPerQuery bounds a query over TLS, where queries are cheap.
	namesPerQuery = 50
	// splitAbove is the number of names that make two queries worth their
	// connections on plain HTTP.
	splitAbove = 50
	// gatherChanges is how long changes of the watched set are gathered before
	// the queries start anew.
	gatherChanges = 200 * time.Millisecond
	// pollMatches is the pace of the names beyond the budget of held queries.
	pollMatches = 2 * time.Second
	// retryDenied is how often a name that the token may not read is tried.
	retryDenied = 60 * time.Second
)

// errReplan ends all queries so that they are planned anew.
var errReplan = errors.New("plan the queries anew")

// matchGroup is a set of names that one query asks for with one token.
type matchGroup struct {
	token *token
	names []intentions.Service
	held  bool
}

// watchIntentions keeps queries open for all wanted destinations.
func (s *Source) watchIntentions(ctx context.Context, feed cache.Feed) error {
	for ctx.Err() == nil {
		woken := s.woken.wait()
		names, changed := wantedNames(feed)
		s.denied.keep(names)
		s.matches.keep(names)
		s.reportDenied(ctx, feed)
		groups := s.planMatches(names)
		if len(groups) == 0 {
			// Nobody is left who could say that an earlier failure is over.
			_ = feed.Publish(ctx, cache.Update{Conditions: []cache.Condition{{Watch: cache.WatchIntentions}}})
		}
		err := s.runGroups(ctx, feed, groups, func(ctx context.Context) error {
			return s.waitForChange(ctx, feed, names, changed, woken)
		})
		if err != nil && !errors.Is(err, errReplan) && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func wantedNames(feed cache.Feed) ([]intentions.Service, <-chan struct{}) {
	wants, changed := feed.Wanted()
	names := make([]intentions.Service, len(wants))
	for i, w := range wants {
		names[i] = w.Service
	}
	return names, changed
}

// waitForChange returns errReplan once other names are wanted, or a denied one
// became readable.
func (s *Source) waitForChange(ctx context.Context, feed cache.Feed, names []intentions.Service, changed, woken <-chan struct{}) error {
	retry := time.NewTicker(retryDenied)
	defer retry.Stop()
	for {
		select {
		case <-changed:
			pause(ctx, gatherChanges, nil)
			var now []intentions.Service
			if now, changed = wantedNames(feed); !slices.Equal(now, names) {
				return errReplan
			}
		case <-retry.C:
			if s.retryDenied(ctx) {
				return errReplan
			}
		case <-woken:
			woken = s.woken.wait()
			if s.retryDenied(ctx) {
				return errReplan
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// planMatches groups names by token, then by what one query should carry, and
// gives out the budget of held queries.
func (s *Source) planMatches(names []intentions.Service) []matchGroup {
	byToken := map[*token][]intentions.Service{}
	var order []*token
	shared := s.hasReadToken()
	for _, name := range names {
		t := s.tokenFor(name)
		own := s.services[name] != nil
		if shared && !(own && s.denied.has(name)) {
			t = s.read
		}
		if t == s.read && s.denied.has(name) {
			continue
		}
		if byToken[t] == nil {
			order = append(order, t)
		}
		byToken[t] = append(byToken[t], name)
	}
	var groups []matchGroup
	for _, t := range order {
		for _, part := range s.parts(byToken[t], len(order)) {
			groups = append(groups, matchGroup{token: t, names: part})
		}
	}
	for i := range groups {
		groups[i].held = s.endpoint.multiplexed() || i < heldMatches
	}
	return groups
}

// parts cuts the names of one token into queries.
func (s *Source) parts(names []intentions.Service, tokens int) [][]intentions.Service {
	size := len(names)
	switch {
	case s.endpoint.multiplexed():
		size = namesPerQuery
	case tokens == 1 && len(names) > splitAbove:
		size = (len(names) + heldMatches - 1) / heldMatches
	}
	return slices.Collect(slices.Chunk(names, max(1, size)))
}

// runGroups runs every query until one of them, or watch, ends.
func (s *Source) runGroups(ctx context.Context, feed cache.Feed, groups []matchGroup, watch func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, group := range groups {
		g.Go(func() error { return s.watchGroup(ctx, feed, group) })
	}
	g.Go(func() error { return watch(ctx) })
	return g.Wait()
}

// watchGroup keeps one query going. An answer that is too large is asked for
// in halves, the second of which is polled.
func (s *Source) watchGroup(ctx context.Context, feed cache.Feed, group matchGroup) error {
	m := &matchQuery{s: s, feed: feed, group: group}
	l := &loop{s: s, slowest: 30 * time.Second}
	m.known, l.last = s.matches.recall(group.names)
	l.ask, l.accept, l.narrows, l.failed = m.ask, m.accept, m.narrows, m.failed
	err := l.run(ctx, m.stop)
	s.matchHealth.set(m, nil)
	if !errors.Is(err, errTooLarge) {
		return err
	}
	half := len(group.names) / 2
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.watchGroup(ctx, feed, matchGroup{group.token, group.names[:half], group.held})
	})
	g.Go(func() error {
		held := group.held && s.endpoint.multiplexed()
		return s.watchGroup(ctx, feed, matchGroup{group.token, group.names[half:], held})
	})
	return g.Wait()
}

// matchQuery is the state of one running query.
type matchQuery struct {
	s     *Source
	feed  cache.Feed
	group matchGroup
	known map[intentions.Service]json.RawMessage
}

func (m *matchQuery) ask(ctx context.Context, index uint64) (answer, error) {
	if index > 0 && !m.group.held {
		pause(ctx, pollMatches, nil)
		index = 0
	}
	a, err := m.s.match(ctx, m.group.token, m.group.names, index)
	if isRefused(err) && m.s.setAside(ctx, m.group, err) {
		return a, errReplan
	}
	return a, err
}

// match asks for the intentions of some destinations.
func (s *Source) match(ctx context.Context, t *token, names []intentions.Service, index uint64) (answer, error) {
	query := url.Values{"by": {"destination"}}
	for _, name := range names {
		query.Add("name", matchName(name))
	}
	return s.get(ctx, request{path: matchPath, query: query, token: t.value(), index: index, wait: wait})
}

// matchName writes a destination as the match route reads it.
func matchName(s intentions.Service) string { return s.String() }

func (m *matchQuery) accept(ctx context.Context, a answer) error {
	rows, err := parseMatch(a.body, m.group.names, m.known)
	if err != nil {
		return err
	}
	conditions := make([]cache.Condition, 0, len(rows))
	for name := range rows {
		conditions = append(conditions, cache.Condition{Watch: cache.WatchIntentions, Service: name})
	}
	if err := m.feed.Publish(ctx, cache.Update{Intentions: rows, Conditions: conditions}); err != nil {
		return err
	}
	m.known = rows
	m.s.matches.learn(rows, a.index)
	return nil
}

// parseMatch checks an answer: exactly the names asked for, each with rows
// that can be read and belong to it. Rows that are already known are not
// looked at again.
func parseMatch(body []byte, names []intentions.Service, known map[intentions.Service]json.RawMessage) (map[intentions.Service]json.RawMessage, error) {
	var answered map[string]json.RawMessage
	if err := json.Unmarshal(body, &answered); err != nil {
		return nil, invalid("Consul's intentions cannot be read: %v", err)
	}
	if len(answered) != len(names) {
		return nil, invalid("Consul answered for %d destinations instead of %d", len(answered), len(names))
	}
	rows := make(map[intentions.Service]json.RawMessage, len(names))
	for _, name := range names {
		raw, ok := answered[matchName(name)]
		if !ok {
			return nil, invalid("Consul's intentions lack destination %q", name)
		}
		if old, ok := known[name]; !ok || !bytes.Equal(old, raw) {
			if err := checkRows(name, raw); err != nil {
				return nil, err
			}
		}
		rows[name] = raw
	}
	return rows, nil
}

func checkRows(name intentions.Service, raw json.RawMessage) error {
	list, err := intentions.ParseIntentions(raw)
	if err != nil {
		return invalid("Consul's intentions for %q cannot be read: %v", name, err)
	}
	for i := range list {
		d := list[i].DestinationName
		if d != intentions.Wildcard && !strings.EqualFold(d, name.Name) {
			return invalid("Consul's intentions for %q hold one for %q", name, d)
		}
	}
	return nil
}

// narrows reports whether an answer only removes rows that allow and adds rows
// that deny; neither can let anyone in.
func (m *matchQuery) narrows(a answer) bool {
	rows, err := parseMatch(a.body, m.group.names, m.known)
	if err != nil {
		return false
	}
	for name, raw := range rows {
		before, err1 := intentions.ParseIntentions(m.known[name])
		after, err2 := intentions.ParseIntentions(raw)
		if err1 != nil || err2 != nil || !intentions.Narrows(before, after) {
			return false
		}
	}
	return true
}

// failed reports to the services of the query where they have a token of their
// own, because then it is no trouble of others, and else to all.
func (m *matchQuery) failed(ctx context.Context, err error) {
	var u cache.Update
	if m.group.token == m.s.read {
		u.Conditions = []cache.Condition{{Watch: cache.WatchIntentions, Failure: m.s.matchHealth.set(m, err)}}
	} else if err != nil {
		for _, name := range m.group.names {
			u.Conditions = append(u.Conditions, cache.Condition{
				Watch: cache.WatchIntentions, Service: name, Failure: asFailure(err),
			})
		}
	}
	_ = m.feed.Publish(ctx, u)
}

// stop ends the query for a new plan; an answer that is too large for a single
// name cannot be helped and is retried.
func (m *matchQuery) stop(err error) error {
	if errors.Is(err, errReplan) || (errors.Is(err, errTooLarge) && len(m.group.names) > 1) {
		return err
	}
	return nil
}
