package consul

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/connectd/connectd/cache"
)

const (
	rootsPath      = "/v1/connect/ca/roots"
	agentRootsPath = "/v1/agent/connect/ca/roots"
)

// probeEvery is the longest pause of the roots query, which finds out for all
// others when upstream is back.
const probeEvery = 2 * time.Second

// watchRoots holds the query for the trust bundle. The servers answer it, not
// the agent's cache, which can stop for good (hashicorp/consul#23806).
func (s *Source) watchRoots(ctx context.Context, feed cache.Feed) error {
	failing := false
	l := &loop{
		s:       s,
		slowest: probeEvery,
		ask: func(ctx context.Context, index uint64) (answer, error) {
			return s.get(ctx, request{path: rootsPath, token: s.read.value(), index: index, wait: wait})
		},
		accept: func(ctx context.Context, a answer) error {
			b, err := parseRoots(a.body)
			if err != nil {
				return err
			}
			return s.publishBundle(ctx, feed, b)
		},
		failed: func(ctx context.Context, err error) {
			x := cache.Condition{Watch: cache.WatchBundle}
			if err != nil {
				x.Failure = asFailure(err)
			} else if failing {
				s.woken.send()
			}
			failing = err != nil
			_ = feed.Publish(ctx, cache.Update{Conditions: []cache.Condition{x}})
		},
	}
	return l.run(ctx, never)
}

func (s *Source) publishBundle(ctx context.Context, feed cache.Feed, b *cache.Bundle) error {
	old := s.bundle.Load()
	if err := feed.Publish(ctx, cache.Update{Bundle: b}); err != nil {
		return err
	}
	if old != nil && old.TrustDomain != b.TrustDomain {
		// The cache raises the alarm. Leaves are still judged by what was known:
		// a trust domain never changes in the life of a cluster.
		return nil
	}
	s.bundle.Store(b)
	if old == nil || old.ActiveRootID != b.ActiveRootID {
		s.rooted.send()
	}
	return nil
}

func parseRoots(body []byte) (*cache.Bundle, error) {
	var list api.CARootList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, invalid("Consul's list of roots cannot be read: %v", err)
	}
	roots := make([]cache.Root, 0, len(list.Roots))
	for _, r := range list.Roots {
		if r == nil {
			return nil, invalid("Consul's list of roots has an empty place")
		}
		roots = append(roots, cache.Root{
			ID: r.ID, Name: r.Name, Active: r.Active, CertPEM: r.RootCertPEM,
			CreateIndex: r.CreateIndex, ModifyIndex: r.ModifyIndex,
		})
	}
	if err := addRootDetails(body, roots); err != nil {
		return nil, err
	}
	b, err := cache.NewBundle(list.TrustDomain, list.ActiveRootID, roots)
	if err != nil {
		return nil, invalid("Consul's list of roots is not usable: %v", err)
	}
	return b, nil
}

// addRootDetails reads what the api package's type leaves out.
func addRootDetails(body []byte, roots []cache.Root) error {
	var list struct {
		Roots []struct {
			SerialNumber        uint64
			SigningKeyID        string
			ExternalTrustDomain string
			NotBefore, NotAfter time.Time
			IntermediateCerts   []string
			PrivateKeyType      string
			PrivateKeyBits      int
		}
	}
	if err := json.Unmarshal(body, &list); err != nil || len(list.Roots) != len(roots) {
		return invalid("Consul's list of roots cannot be read")
	}
	for i, d := range list.Roots {
		if d.SigningKeyID == "" {
			return invalid("Consul's root %s has no signing key", roots[i].ID)
		}
		r := &roots[i]
		r.SerialNumber, r.SigningKeyID, r.ExternalTrustDomain = d.SerialNumber, d.SigningKeyID, d.ExternalTrustDomain
		r.NotBefore, r.NotAfter, r.IntermediatesPEM = d.NotBefore, d.NotAfter, d.IntermediateCerts
		r.PrivateKeyType, r.PrivateKeyBits = d.PrivateKeyType, d.PrivateKeyBits
	}
	return nil
}

// holdAgentRoots keeps a blocking query on the agent's own roots route open
// and ignores the answers. It keeps the agent's cache moving: without it a
// client agent that anyone once asked for its roots compares leaves with a
// frozen root, and returns old leaves for ever after a rotation.
func (s *Source) holdAgentRoots(ctx context.Context) error {
	l := &loop{
		s:       s,
		slowest: 30 * time.Second,
		ask: func(ctx context.Context, index uint64) (answer, error) {
			// Index 1 answers at once but, unlike none, counts as blocking.
			a, err := s.get(ctx, request{
				path: agentRootsPath, token: s.read.value(), index: max(index, 1), wait: wait,
				query: url.Values{},
			})
			a.body = nil
			return a, err
		},
		accept: func(context.Context, answer) error { return nil },
		failed: func(context.Context, error) {},
	}
	return l.run(ctx, never)
}

// errNoBundle means that leaves cannot be judged yet.
var errNoBundle = errors.New("the trust bundle has not arrived yet")
