package consul

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
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

// pollLocal keeps the list of native services on this host current.
func (s *Source) pollLocal(ctx context.Context, feed cache.Feed) error {
	var last []cache.LocalService
	tick := time.NewTicker(localEvery)
	defer tick.Stop()
	for {
		found, err := s.localServices(ctx)
		if ctx.Err() != nil {
			return nil
		}
		u := cache.Update{Conditions: []cache.Condition{{Watch: cache.WatchLocal}}}
		if err != nil {
			u.Conditions[0].Failure = asFailure(err)
		} else {
			u.Conditions[0].Failure = found.keepHidden(last)
			if last == nil || !slices.Equal(last, found.services) {
				last, u.Local, u.Datacenter = found.services, found.services, found.datacenter
			}
		}
		if feed.Publish(ctx, u) != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// localList is one answer about the services of this host, in the order of
// their IDs.
type localList struct {
	services   []cache.LocalService
	datacenter string
	// filtered means that ACLs hide some services.
	filtered bool
}

// keepHidden puts back what was known before and is missing from an answer
// that ACLs cut short: a token that lost rights must not look like services
// that were deregistered, because those lose their keys.
func (l *localList) keepHidden(before []cache.LocalService) *cache.Failure {
	if !l.filtered {
		return nil
	}
	hidden := 0
	for _, old := range before {
		if !slices.ContainsFunc(l.services, func(x cache.LocalService) bool { return x.ID == old.ID }) {
			l.services = append(l.services, old)
			hidden++
		}
	}
	if hidden == 0 {
		return nil
	}
	l.sort()
	return &cache.Failure{Kind: cache.FailureFiltered, Message: fmt.Sprintf("ACLs hide local services from the "+
		"read token, %d of them known from before and kept: it needs service:read on all", hidden)}
}

func (l *localList) sort() {
	slices.SortFunc(l.services, func(a, b cache.LocalService) int { return cmp.Compare(a.ID, b.ID) })
}

// localServices lists what is registered native on this agent. The agent's own
// filter crashes on this field, so the choice is made here.
func (s *Source) localServices(ctx context.Context) (localList, error) {
	a, err := s.get(ctx, request{path: servicesPath, token: s.read.value()})
	if err != nil {
		return localList{}, err
	}
	var all map[string]*api.AgentService
	if err := json.Unmarshal(a.body, &all); err != nil || all == nil {
		return localList{}, invalid("Consul's list of local services cannot be read")
	}
	list := localList{services: []cache.LocalService{}, filtered: a.filtered}
	for id, svc := range all {
		if svc == nil {
			return localList{}, invalid("Consul's list of local services has an empty place")
		}
		if svc.Connect == nil || !svc.Connect.Native {
			continue
		}
		if !intentions.ValidName(svc.Service) {
			s.logger.Debug("local service has a name that no SPIFFE ID can carry", "service", svc.Service)
			continue
		}
		list.datacenter = svc.Datacenter
		list.services = append(list.services, cache.LocalService{
			Service: serviceOf(svc.Partition, svc.Namespace, svc.Service),
			ID:      id, Address: svc.Address, Port: svc.Port,
		})
	}
	list.sort()
	return list, nil
}

// serviceOf names a service from an answer, where empty parts are default.
func serviceOf(partition, namespace, name string) intentions.Service {
	s := intentions.NewService(name)
	s.Partition = cmp.Or(partition, s.Partition)
	s.Namespace = cmp.Or(namespace, s.Namespace)
	return s
}
