package connect

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"github.com/hashicorp/consul/api"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/intentions"
)

// Resolver finds one instance of a service: an address for net.Dial("tcp",
// address), and the identity to expect there. It may return another instance
// each time, and need not respect the context.
type Resolver interface {
	Resolve(ctx context.Context) (addr string, certURI CertURI, err error)
}

// StaticResolver knows the instance already.
type StaticResolver struct {
	// Addr is host and port of a listener of mutual TLS.
	Addr string
	// CertURI is the identity to expect.
	CertURI CertURI
}

// Resolve returns the two fields.
func (r *StaticResolver) Resolve(context.Context) (string, CertURI, error) {
	return r.Addr, r.CertURI, nil
}

// What a ConsulResolver looks for.
const (
	// ConsulResolverTypeService finds healthy instances of a service.
	ConsulResolverTypeService int = iota
	// ConsulResolverTypePreparedQuery executes a prepared query.
	ConsulResolverTypePreparedQuery
)

// ConsulResolver finds instances through Consul's API: that of an agent, or
// the same routes on connectd's socket.
type ConsulResolver struct {
	// Client must not be nil.
	Client *api.Client
	// Namespace and Partition are those of the destination.
	Namespace string
	Partition string
	// Name is that of the service or query.
	Name string
	// Type is one of the constants ConsulResolverType.
	Type int
	// Datacenter is empty for the agent's own.
	Datacenter string
	// Filter is an expression over the instances.
	Filter string
}

// Resolve returns one of the instances at random.
func (r *ConsulResolver) Resolve(ctx context.Context) (string, CertURI, error) {
	switch r.Type {
	case ConsulResolverTypeService:
		return r.resolveService(ctx)
	case ConsulResolverTypePreparedQuery:
		return r.resolveQuery(ctx)
	}
	return "", nil, fmt.Errorf("connect: %d is no type of a ConsulResolver", r.Type)
}

func (r *ConsulResolver) options(ctx context.Context) *api.QueryOptions {
	o := &api.QueryOptions{Namespace: r.Namespace, Partition: r.Partition, Datacenter: r.Datacenter, Filter: r.Filter}
	return o.WithContext(ctx)
}

func (r *ConsulResolver) resolveService(ctx context.Context) (string, CertURI, error) {
	list, _, err := r.Client.Health().Connect(r.Name, "", true, r.options(ctx))
	if err != nil {
		return "", nil, err
	}
	if len(list) == 0 {
		return "", nil, fmt.Errorf("connect: there is no healthy instance of the service %q", r.Name)
	}
	e := list[rand.IntN(len(list))]
	return r.instance(e.Node, e.Service)
}

func (r *ConsulResolver) resolveQuery(ctx context.Context) (string, CertURI, error) {
	o := r.options(ctx)
	o.Connect = true
	answer, _, err := r.Client.PreparedQuery().Execute(r.Name, o)
	if err != nil {
		return "", nil, err
	}
	if len(answer.Nodes) == 0 {
		return "", nil, fmt.Errorf("connect: the query %q finds no healthy instance", r.Name)
	}
	e := answer.Nodes[rand.IntN(len(answer.Nodes))]
	return r.instance(e.Node, e.Service)
}

// instance is where a service can be reached. A sidecar answers with the
// identity of the service behind it.
func (r *ConsulResolver) instance(node *api.Node, s *api.AgentService) (string, CertURI, error) {
	if node == nil || s == nil {
		return "", nil, errors.New("connect: Consul's answer has an instance without its node or service")
	}
	address := s.Address
	if address == "" {
		address = node.Address
	}
	id := &SpiffeIDService{Namespace: s.Namespace, Partition: s.Partition, Datacenter: node.Datacenter, Service: s.Service}
	if s.Kind == api.ServiceKindConnectProxy && s.Proxy != nil {
		id.Service = s.Proxy.DestinationServiceName
	}
	return net.JoinHostPort(address, strconv.Itoa(s.Port)), id, nil
}

// ConsulResolverFromAddrFunc returns what makes a ConsulResolver from a name of
// Consul's DNS with or without a port, such as web.service.consul or
// near.query.dc2.consul. DNS is not asked.
func ConsulResolverFromAddrFunc(client *api.Client) func(addr string) (Resolver, error) {
	return func(addr string) (Resolver, error) {
		to, err := destination(addr)
		if err != nil {
			return nil, err
		}
		r := &ConsulResolver{Client: client, Name: to.Service, Namespace: intentions.DefaultPart, Datacenter: to.Datacenter}
		if to.Query != "" {
			r.Name, r.Type = to.Query, ConsulResolverTypePreparedQuery
		}
		return r, nil
	}
}

// destination reads a name with or without a port.
func destination(addr string) (connectd.Destination, error) {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		addr = host
	}
	return connectd.ParseHost(addr)
}
