package socketapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// instanceWire is one place where a service can be reached, and the SPIFFE ID
// to expect there.
type instanceWire struct {
	ID         string `json:"id"`
	Node       string `json:"node"`
	Address    string `json:"address"`
	Port       int    `json:"port"`
	Datacenter string `json:"datacenter"`
	SPIFFEID   string `json:"spiffe_id"`
}

type discoveryWire struct {
	Index     uint64         `json:"index"`
	Service   serviceWire    `json:"service"`
	Instances []instanceWire `json:"instances"`
}

// discovery lists the healthy mesh instances of a service, or of what a
// prepared query finds (?query=, with any service in the path).
func (a *api) discovery(c *call) error {
	s, err := c.named(chi.URLParam(c.Request, "service"))
	if err != nil {
		return err
	}
	q := c.URL.Query()
	b, err := parseBlocking(q, ownWait)
	if err != nil {
		return err
	}
	datacenter := q.Get("dc")
	if datacenter != "" && !intentions.ValidName(datacenter) {
		return badRequest("dc %q is not valid", clip(datacenter))
	}
	bundle, err := c.awaitBundle(blocking{})
	if err != nil {
		return err
	}
	trustDomain := bundle.Bundle.TrustDomain
	if name := q.Get("query"); name != "" {
		return a.discoverByQuery(c, s, name, trustDomain)
	}
	view, err := c.lookUp(b, cache.Lookup{Service: s, Datacenter: datacenter, Mesh: true, Passing: true})
	if err != nil {
		return err
	}
	return c.respond(view.Part.Index, view.Age, tail(discoveryWire{
		Index: view.Part.Index, Service: wireService(s, datacenter),
		Instances: wireInstances(view.Part.Instances, trustDomain),
	}))
}

func wireInstances(list []cache.Instance, trustDomain string) []instanceWire {
	out := make([]instanceWire, 0, len(list))
	for _, i := range list {
		id := intentions.ID{TrustDomain: trustDomain, Service: i.Service, Datacenter: i.Datacenter}
		out = append(out, instanceWire{
			ID: i.ID, Node: i.Node, Address: i.Address, Port: i.Port, Datacenter: i.Datacenter, SPIFFEID: id.String(),
		})
	}
	return out
}

// keepAsking is how often a waiting caller asks again, well within the time
// after which a lookup that nobody asks for is no longer kept current.
const keepAsking = 20 * time.Second

// lookUp waits until a lookup has another index than the caller.
func (c *call) lookUp(b blocking, l cache.Lookup) (cache.DiscoveryView, error) {
	ctx, cancel := context.WithDeadline(c.Context(), c.began.Add(holdFirst))
	defer cancel()
	view, err := c.api.cfg.Cache.Discover(ctx, l)
	if err != nil {
		return view, c.discoveryError(l, err)
	}
	if b.after != view.Part.Index {
		return view, c.delayAhead(b, reading{index: view.Part.Index})
	}
	over := time.NewTimer(b.wait)
	defer over.Stop()
	for waiting := true; waiting && b.after == view.Part.Index; {
		again := time.NewTimer(keepAsking)
		select {
		case <-view.Changed:
		case <-c.changed:
			if err := c.readmit(); err != nil {
				again.Stop()
				return view, err
			}
		case <-again.C:
		case <-over.C:
			waiting = false
		case <-c.api.stopping:
			waiting = false
		case <-c.Context().Done():
			again.Stop()
			return view, errCallerGone
		}
		again.Stop()
		if view, err = c.api.cfg.Cache.Discover(c.Context(), l); err != nil {
			return view, c.discoveryError(l, err)
		}
	}
	return view, nil
}

// discoveryError gives what upstream says about a lookup the place of a
// missing answer: it is no defect of the daemon.
func (c *call) discoveryError(l cache.Lookup, err error) error {
	var failure *cache.Failure
	switch {
	case c.Context().Err() != nil:
		return errCallerGone
	case errors.Is(err, context.DeadlineExceeded):
		return notReady("no answer from upstream about %s yet", l.Service)
	case errors.As(err, &failure), errors.Is(err, cache.ErrStopped):
		return err
	}
	return notReady("%v", err)
}

// discoverByQuery executes a prepared query for the instances it finds.
func (a *api) discoverByQuery(c *call, s intentions.Service, name, trustDomain string) error {
	if !intentions.ValidName(name) {
		return badRequest("query name %q is not valid", clip(name))
	}
	query := url.Values{"connect": {"true"}}
	if datacenter := c.URL.Query().Get("dc"); datacenter != "" {
		query.Set("dc", datacenter)
	}
	p, err := a.pass(c.Context(), "/v1/query/"+name+"/execute", query)
	if err != nil {
		return err
	}
	if p.status != http.StatusOK {
		return &apiError{status: http.StatusBadGateway, code: CodeUpstreamRefused,
			message: "Consul answers the prepared query " + name + ": " + strings.TrimSpace(string(p.body))}
	}
	list, err := parseQueryNodes(p.body)
	if err != nil {
		return err
	}
	return c.respond(a.cfg.Cache.Index(), 0, tail(discoveryWire{
		Index: a.cfg.Cache.Index(), Service: wireService(s, c.URL.Query().Get("dc")),
		Instances: wireInstances(list, trustDomain),
	}))
}

func parseQueryNodes(body []byte) ([]cache.Instance, error) {
	var answer struct {
		Datacenter string
		Nodes      []struct {
			Node struct{ Node, Address, Datacenter string }

			Service struct {
				ID, Service, Kind, Address, Namespace, Partition string

				Port  int
				Proxy struct{ DestinationServiceName string }
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, notReady("Consul's answer to the prepared query cannot be read")
	}
	var out []cache.Instance
	for _, n := range answer.Nodes {
		i := cache.Instance{
			ID: n.Service.ID, Node: n.Node.Node, Address: n.Service.Address, Port: n.Service.Port,
			Datacenter: n.Node.Datacenter, Service: intentions.NewService(n.Service.Service),
		}
		if i.Address == "" {
			i.Address = n.Node.Address
		}
		if n.Service.Kind == "connect-proxy" {
			i.Service.Name = n.Service.Proxy.DestinationServiceName
		}
		if n.Service.Namespace != "" {
			i.Service.Namespace = n.Service.Namespace
		}
		if n.Service.Partition != "" {
			i.Service.Partition = n.Service.Partition
		}
		out = append(out, i)
	}
	return out, nil
}

// passed is an answer of Consul's on its way through.
type passed struct {
	status int
	header http.Header
	body   []byte
}

// pass asks Consul what is not cached; identical requests share one.
func (a *api) pass(ctx context.Context, path string, query url.Values) (passed, error) {
	if a.cfg.Upstream == nil {
		return passed{}, notReady("this upstream does not answer %s", path)
	}
	result := a.passing.DoChan(path+"?"+query.Encode(), func() (any, error) {
		// The request belongs to everyone who waits for it, not to the first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdFirst)
		defer cancel()
		status, header, body, err := a.cfg.Upstream.Pass(ctx, path, query)
		return passed{status, header, body}, err
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return passed{}, r.Err
		}
		return r.Val.(passed), nil
	case <-ctx.Done():
		return passed{}, errCallerGone
	}
}
