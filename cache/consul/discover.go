package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const (
	healthConnectPath = "/v1/health/connect/"
	healthServicePath = "/v1/health/service/"
)

// pollLookup is the pace of a lookup on plain HTTP, where a held query would
// cost a connection.
const pollLookup = 2 * time.Second

// Discover implements cache.Discoverer.
func (s *Source) Discover(ctx context.Context, l cache.Lookup, have *cache.Discovered) (*cache.Discovered, error) {
	r := request{path: healthServicePath, query: enterpriseQuery(l.Service), token: s.read.value()}
	if l.Mesh {
		r.path = healthConnectPath
	}
	r.path += url.PathEscape(l.Service.Name)
	r.query.Set("stale", "")
	if l.Datacenter != "" {
		r.query.Set("dc", l.Datacenter)
	}
	if l.Passing {
		r.query.Set("passing", "1")
	}
	if have != nil && s.endpoint.multiplexed() {
		r.index, r.wait = have.UpstreamIndex, wait
	} else if have != nil {
		pause(ctx, pollLookup, nil)
	}
	began := time.Now()
	a, err := s.get(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.index > 0 && bytes.Equal(a.body, have.Body) {
		// The caller asks again at once, so an agent that does not block would
		// be asked without end.
		pause(ctx, idlePause-time.Since(began), nil)
	}
	instances, err := parseInstances(a.body)
	if err != nil {
		return nil, err
	}
	if len(instances) == 0 && a.filtered {
		return nil, &cache.Failure{Kind: cache.FailureFiltered, Message: "ACLs hid every instance of " +
			l.Service.String() + ": the read token needs service:read on it and node:read"}
	}
	return &cache.Discovered{Body: a.body, Instances: instances, UpstreamIndex: max(a.index, 1)}, nil
}

func parseInstances(body []byte) ([]cache.Instance, error) {
	var rows []struct {
		Node    *api.Node
		Service *api.AgentService
	}
	if err := json.Unmarshal(body, &rows); err != nil || rows == nil {
		return nil, invalid("Consul's instances cannot be read")
	}
	out := make([]cache.Instance, 0, len(rows))
	for _, r := range rows {
		if r.Node == nil || r.Service == nil {
			return nil, invalid("Consul's instances lack a node or a service")
		}
		out = append(out, instanceOf(r.Node, r.Service))
	}
	return out, nil
}

// instanceOf prefers the service's address over its node's, as Consul does. A
// proxy stands for the service behind it.
func instanceOf(n *api.Node, s *api.AgentService) cache.Instance {
	address := s.Address
	if address == "" {
		address = n.Address
	}
	name := s.Service
	if s.Kind == api.ServiceKindConnectProxy && s.Proxy != nil {
		name = s.Proxy.DestinationServiceName
	}
	return cache.Instance{
		ID: s.ID, Node: n.Node, Address: address, Port: s.Port, Datacenter: n.Datacenter,
		Service: serviceOf(s.Partition, s.Namespace, name),
	}
}

// Pass sends a GET with the read token and returns whatever Consul says. The
// error is set only where there was no answer.
func (s *Source) Pass(ctx context.Context, path string, query url.Values) (int, http.Header, []byte, error) {
	resp, body, err := s.send(ctx, request{path: path, query: query, token: s.read.value()})
	if err != nil {
		return 0, nil, nil, err
	}
	return resp.StatusCode, resp.Header, body, nil
}

// LiveIntentions reads the intentions of one destination that is not watched.
func (s *Source) LiveIntentions(ctx context.Context, destination intentions.Service) (json.RawMessage, error) {
	names := []intentions.Service{destination}
	a, err := s.match(ctx, s.read, names, 0)
	if err != nil {
		return nil, err
	}
	rows, err := parseMatch(a.body, names, nil)
	if err != nil {
		return nil, err
	}
	return rows[destination], nil
}
