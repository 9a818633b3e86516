package connectd

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/connectd/connectd/intentions"
)

// ReadOptions makes a read block: with an Index it is answered when the
// daemon's index differs, or after Wait (a minute if zero, at most ten).
// Without an index the answer comes at once, unless the first one is still on
// its way: then after at most 30 s.
type ReadOptions struct {
	Index uint64
	Wait  time.Duration
}

// SnapshotOptions are ReadOptions and the serial number of the leaf that the
// caller has, which is then not sent again.
type SnapshotOptions struct {
	Index    uint64
	Wait     time.Duration
	HaveLeaf string
}

// DiscoverOptions are ReadOptions and where to look.
type DiscoverOptions struct {
	Index uint64
	Wait  time.Duration
	// Datacenter is empty for the daemon's own.
	Datacenter string
	// Query is the name of a prepared query that is executed instead.
	Query string
}

// Snapshot returns leaf, bundle and policy of a service as one consistent set.
// A service is given by its name, or as partition/namespace/name.
func (c *Client) Snapshot(ctx context.Context, service string, o SnapshotOptions) (*SnapshotAnswer, error) {
	r, err := ofService(service, "/v1/services/", "/snapshot")
	if err != nil {
		return nil, err
	}
	if o.HaveLeaf != "" {
		r.query.Set("have_leaf", o.HaveLeaf)
	}
	s, err := ask[SnapshotAnswer](ctx, c, r.blocking(o.Index, o.Wait))
	if err != nil {
		return nil, err
	}
	if s.Bundle == nil || s.Policy == nil {
		return nil, invalidAnswer("the snapshot of %s from %s is not complete", service, c.socket)
	}
	return s, nil
}

// Leaf returns the leaf of a service with its private key.
func (c *Client) Leaf(ctx context.Context, service string, o ReadOptions) (*LeafAnswer, error) {
	r, err := ofService(service, "/v1/services/", "/leaf")
	if err != nil {
		return nil, err
	}
	return ask[LeafAnswer](ctx, c, r.blocking(o.Index, o.Wait))
}

// Policy returns the policy of a service as a destination.
func (c *Client) Policy(ctx context.Context, service string, o ReadOptions) (*PolicyAnswer, error) {
	r, err := ofService(service, "/v1/services/", "/policy")
	if err != nil {
		return nil, err
	}
	return ask[PolicyAnswer](ctx, c, r.blocking(o.Index, o.Wait))
}

// Intentions returns the rows of a destination, a JSON array in Consul's own
// form or null for none, as upstream gave them. Consul answers so in the
// default partition and namespace only.
func (c *Client) Intentions(ctx context.Context, destination string) (json.RawMessage, error) {
	s, err := parseService(destination)
	if err != nil {
		return nil, err
	}
	if !s.InDefaultParts() {
		return nil, badRequest("%s lies outside of the default partition and namespace, which Consul's route "+
			"for intentions does not serve", s)
	}
	r := get("/v1/connect/intentions/match").blocking(0, 0)
	r.query.Set("by", "destination")
	r.query.Set("name", s.Name)
	lists, err := ask[map[string]json.RawMessage](ctx, c, r)
	if err != nil {
		return nil, err
	}
	// The daemon may spell the name as Consul looks it up.
	for name, rows := range *lists {
		if strings.EqualFold(name, s.Name) {
			return rows, nil
		}
	}
	return nil, invalidAnswer("the answer from %s lists no intentions for %s", c.socket, s)
}

// Ready reports whether a service has everything it needs; if not, the error
// has the code not_ready and says why. It never blocks.
func (c *Client) Ready(ctx context.Context, service string) (*ReadyAnswer, error) {
	r, err := ofService(service, "/v1/services/", "/ready")
	if err != nil {
		return nil, err
	}
	return ask[ReadyAnswer](ctx, c, r)
}

// Bundle returns the trust bundle.
func (c *Client) Bundle(ctx context.Context, o ReadOptions) (*BundleAnswer, error) {
	return ask[BundleAnswer](ctx, c, get("/v1/bundle").blocking(o.Index, o.Wait))
}

// Discover lists the healthy mesh instances of a service.
func (c *Client) Discover(ctx context.Context, service string, o DiscoverOptions) (*Discovery, error) {
	r, err := ofService(service, "/v1/discovery/", "")
	if err != nil {
		return nil, err
	}
	if o.Datacenter != "" {
		r.query.Set("dc", o.Datacenter)
	}
	if o.Query != "" {
		r.query.Set("query", o.Query)
	}
	return ask[Discovery](ctx, c, r.blocking(o.Index, o.Wait))
}

// ofService is a read whose path names a service.
func ofService(service, before, behind string) (request, error) {
	s, err := parseService(service)
	if err != nil {
		return request{}, err
	}
	r := get(before + s.Name + behind)
	addParts(r.query, s)
	return r, nil
}

// addParts names the other two parts of a service where they are not default.
func addParts(q url.Values, s intentions.Service) {
	if s.Namespace != intentions.DefaultPart {
		q.Set("ns", s.Namespace)
	}
	if s.Partition != intentions.DefaultPart {
		q.Set("partition", s.Partition)
	}
}

// parseService reads a name, or partition/namespace/name.
func parseService(text string) (intentions.Service, error) {
	parts := strings.Split(text, "/")
	for _, p := range parts {
		if !intentions.ValidName(p) {
			return intentions.Service{}, badRequest("%.64q is not a service: use its name, of letters, digits, '.', '-' "+
				"and '_', or partition/namespace/name", text)
		}
	}
	switch len(parts) {
	case 1:
		return intentions.NewService(parts[0]), nil
	case 3:
		return intentions.Service{Partition: parts[0], Namespace: parts[1], Name: parts[2]}, nil
	}
	return intentions.Service{}, badRequest("%.64q is not a service: use its name or partition/namespace/name", text)
}
