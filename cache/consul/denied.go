package consul

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const (
	// The search for denied names costs two requests for each of them and each
	// halving. A token that may read nothing must not become a storm.
	searchRate, searchBurst = 5, 50
	// retryBudget bounds the queries of one attempt to bring names back.
	retryBudget = 40
)

// unknownToken is how Consul refuses a token that it does not know at all.
const unknownToken = "ACL not found"

// setAside finds the names of a shared group that its token may not read, by
// halving, and reports whether it found any. Names under their own token are
// not set aside: their query concerns nobody else. A token that Consul does
// not know is no matter of names.
func (s *Source) setAside(ctx context.Context, group matchGroup, refusal error) bool {
	if group.token != s.read || strings.Contains(refusal.Error(), unknownToken) {
		return false
	}
	budget := 2 * len(group.names)
	found := s.findDenied(ctx, group.names, &budget)
	for _, name := range found {
		s.denied.add(name)
		s.logger.Warn("the read token may not read the intentions of a service, others go on without it",
			"service", name.String())
	}
	return len(found) > 0
}

// findDenied returns which of names, whose query was refused, are the cause.
// Once the budget of queries is spent, all that is left counts as denied.
func (s *Source) findDenied(ctx context.Context, names []intentions.Service, budget *int) []intentions.Service {
	if len(names) == 1 || *budget <= 0 {
		return names
	}
	half := len(names) / 2
	var found []intentions.Service
	for _, part := range [][]intentions.Service{names[:half:half], names[half:]} {
		*budget--
		if s.refuses(ctx, part) {
			found = append(found, s.findDenied(ctx, part, budget)...)
		}
	}
	return found
}

// refuses reports whether the read token may not read some of names.
func (s *Source) refuses(ctx context.Context, names []intentions.Service) bool {
	if s.searches.Wait(ctx) != nil {
		return false
	}
	_, err := s.match(ctx, s.read, names, 0)
	return isRefused(err)
}

// retryDenied tries the names that were set aside and reports whether some can
// be read again. The order is by chance, because the budget may end early.
func (s *Source) retryDenied(ctx context.Context) bool {
	before := s.denied.all()
	if len(before) == 0 {
		return false
	}
	rand.Shuffle(len(before), func(i, j int) { before[i], before[j] = before[j], before[i] })
	var still []intentions.Service
	if s.refuses(ctx, before) {
		budget := retryBudget
		still = s.findDenied(ctx, before, &budget)
	}
	if ctx.Err() == nil {
		s.denied.keep(still)
	}
	return len(still) < len(before)
}

// reportDenied says what is missing for the names that were set aside and have
// no token of their own.
func (s *Source) reportDenied(ctx context.Context, feed cache.Feed) {
	for _, name := range s.denied.all() {
		if s.services[name] != nil {
			continue
		}
		x := cache.Condition{Watch: cache.WatchIntentions, Service: name, Failure: &cache.Failure{
			Kind: cache.FailureRefused,
			Message: "the read token lacks intentions:read on \"" + name.Name + "\", which service_prefix \"\" " +
				"{ policy = \"read\" } gives; until then its policy cannot be confirmed",
		}}
		_ = feed.Publish(ctx, cache.Update{Conditions: []cache.Condition{x}})
	}
}

// denied remembers the names that the read token may not read: one of them
// fails a query for all.
type denied struct {
	mu    sync.Mutex // guards names
	names map[intentions.Service]bool
}

func (d *denied) has(s intentions.Service) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[s]
}

func (d *denied) add(s intentions.Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil {
		d.names = map[intentions.Service]bool{}
	}
	d.names[s] = true
}

// keep forgets all names but these.
func (d *denied) keep(names []intentions.Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	forgetOthers(d.names, names)
}

func (d *denied) all() []intentions.Service {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.names))
}

// forgetOthers deletes every name that is not among names.
func forgetOthers[V any](from map[intentions.Service]V, names []intentions.Service) {
	keep := make(map[intentions.Service]bool, len(names))
	for _, name := range names {
		keep[name] = true
	}
	maps.DeleteFunc(from, func(name intentions.Service, _ V) bool { return !keep[name] })
}
