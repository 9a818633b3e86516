package consul

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const servicesPath = "/v1/agent/services"

// localEvery is the pace of the local poll: the route cannot block, but it is
// answered by the agent alone and cheap.
const localEvery = 3 * time.Second

// pollLocal keeps the list of native services on this host current, and looks
// whether a token file changed.
func (s *Source) pollLocal(ctx context.Context, feed cache.Feed) error {
	var last []cache.LocalService
	tick := time.NewTicker(localEvery)
	defer tick.Stop()
	for {
		list, datacenter, err := s.localServices(ctx)
		if ctx.Err() != nil {
			return nil
		}
		u := cache.Update{Conditions: []cache.Condition{{Watch: cache.WatchLocal}}}
		switch {
		case err != nil:
			u.Conditions[0].Failure = asFailure(err)
		case last == nil || !slices.Equal(last, list):
			last, u.Local, u.Datacenter = list, list, datacenter
		}
		if feed.Publish(ctx, u) != nil {
			return nil
		}
		s.checkTokens(ctx, feed)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// localServices lists what is registered native on this agent. The agent's own
// filter crashes on this field, so the choice is made here.
func (s *Source) localServices(ctx context.Context) ([]cache.LocalService, string, error) {
	a, err := s.get(ctx, request{path: servicesPath, token: s.read.value()})
	if err != nil {
		return nil, "", err
	}
	var all map[string]*api.AgentService
	if err := json.Unmarshal(a.body, &all); err != nil {
		return nil, "", invalid("Consul's list of local services cannot be read: %v", err)
	}
	list := []cache.LocalService{}
	datacenter := ""
	for id, svc := range all {
		if svc == nil || svc.Connect == nil || !svc.Connect.Native {
			continue
		}
		if !intentions.ValidName(svc.Service) {
			s.logger.Debug("local service has a name that no SPIFFE ID can carry", "service", svc.Service)
			continue
		}
		datacenter = svc.Datacenter
		list = append(list, cache.LocalService{
			Service: serviceOf(svc.Partition, svc.Namespace, svc.Service),
			ID:      id, Address: svc.Address, Port: svc.Port,
		})
	}
	slices.SortFunc(list, func(a, b cache.LocalService) int { return cmp.Compare(a.ID, b.ID) })
	return list, datacenter, nil
}

// serviceOf names a service from an answer, where empty parts are default.
func serviceOf(partition, namespace, name string) intentions.Service {
	s := intentions.NewService(name)
	s.Partition = cmp.Or(partition, s.Partition)
	s.Namespace = cmp.Or(namespace, s.Namespace)
	return s
}

// checkTokens reads changed token files and wakes everything that failed.
func (s *Source) checkTokens(ctx context.Context, feed cache.Feed) {
	changed := false
	var problems []error
	for _, t := range append(slices.Collect(maps.Values(s.services)), s.read) {
		other, err := t.reload()
		changed = changed || other
		if err != nil {
			problems = append(problems, err)
		}
	}
	x := cache.Condition{Watch: cache.WatchToken}
	if err := errors.Join(problems...); err != nil {
		x.Failure = &cache.Failure{Kind: cache.FailureRefused, Message: err.Error() + "; the last content stays in force"}
	}
	_ = feed.Publish(ctx, cache.Update{Conditions: []cache.Condition{x}})
	if changed {
		s.logger.Info("a token file changed")
		s.woken.send()
	}
}
