package consul

import (
	"context"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// setAside finds the names of a shared group that its token may not read, by
// halving, and reports whether it found any. Names under their own token are
// not set aside: their query concerns nobody else.
func (s *Source) setAside(ctx context.Context, group matchGroup) bool {
	if group.token != s.read || len(group.names) < 2 {
		return false
	}
	found := s.findDenied(ctx, group.names)
	for _, name := range found {
		s.denied.set(name, true)
		s.logger.Warn("the read token may not read the intentions of a service, others go on without it",
			"service", name.String())
	}
	return len(found) > 0
}

func (s *Source) findDenied(ctx context.Context, names []intentions.Service) []intentions.Service {
	if _, err := s.match(ctx, s.read, names, 0); !isRefused(err) {
		return nil
	}
	if len(names) == 1 {
		return names
	}
	half := len(names) / 2
	return append(s.findDenied(ctx, names[:half:half]), s.findDenied(ctx, names[half:])...)
}

// retryDenied tries every name set aside once and reports whether one can be
// read again.
func (s *Source) retryDenied(ctx context.Context) bool {
	any := false
	for _, name := range s.denied.all() {
		if _, err := s.match(ctx, s.read, []intentions.Service{name}, 0); err == nil {
			s.denied.set(name, false)
			any = true
		}
	}
	return any
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
