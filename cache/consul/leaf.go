package consul

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const leafPath = "/v1/agent/connect/ca/leaf/"

// notYetValid is how far in the future a leaf may begin: clocks differ.
const notYetValid = 5 * time.Minute

// leafAnswer is the body of the leaf route.
type leafAnswer struct {
	SerialNumber  string
	CertPEM       string
	PrivateKeyPEM string
	Service       string
	ServiceURI    string
	CreateIndex   uint64
	ModifyIndex   uint64
}

// fetchLeaf asks the agent for a leaf. With an index the query is held until
// the agent has another one.
func (s *Source) fetchLeaf(ctx context.Context, service intentions.Service, index uint64, wait time.Duration) (*cache.Leaf, error) {
	a, err := s.get(ctx, request{
		path: leafPath + url.PathEscape(service.Name), query: enterpriseQuery(service),
		token: s.tokenFor(service).value(), index: index, wait: wait,
	})
	if err != nil {
		return nil, err
	}
	return s.parseLeaf(service, a, time.Now())
}

// enterpriseQuery names partition and namespace where they are not default;
// Community Edition refuses the parameters, even with the value default.
func enterpriseQuery(s intentions.Service) url.Values {
	query := url.Values{}
	if s.Partition != intentions.DefaultPart {
		query.Set("partition", s.Partition)
	}
	if s.Namespace != intentions.DefaultPart {
		query.Set("ns", s.Namespace)
	}
	return query
}

// parseLeaf accepts a leaf wholly or not at all: the service asked for, a key
// that fits, dates around now, and a chain to a known root.
func (s *Source) parseLeaf(service intentions.Service, a answer, now time.Time) (*cache.Leaf, error) {
	var in leafAnswer
	if err := json.Unmarshal(a.body, &in); err != nil {
		return nil, invalid("Consul's leaf for %q cannot be read", service)
	}
	if a.index == 0 || in.ModifyIndex == 0 {
		return nil, invalid("Consul's leaf for %q has no index", service)
	}
	leaf, err := cache.ParseLeaf(service, in.CertPEM, cache.NewSecret(in.PrivateKeyPEM))
	if err != nil {
		return nil, invalid("Consul's leaf is not usable: %v", err)
	}
	if in.Service != service.Name || in.ServiceURI != leaf.SPIFFEID {
		return nil, invalid("Consul's leaf for %q claims to be of %q (%s)", service, in.Service, in.ServiceURI)
	}
	if leaf.Expired(now) || leaf.NotBefore.After(now.Add(notYetValid)) {
		return nil, invalid("Consul's leaf for %q is valid from %s to %s, not now; is a clock wrong?",
			service, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	bundle := s.bundle.Load()
	if bundle == nil {
		return nil, errNoBundle
	}
	if err := leaf.Verify(bundle, now); err != nil {
		return nil, invalid("Consul's leaf is not usable: %v", err)
	}
	leaf.CreateIndex, leaf.ModifyIndex = in.CreateIndex, in.ModifyIndex
	return leaf, nil
}
