package main

import (
	"context"
	"time"

	"github.com/hashicorp/consul/api"
)

// authorize asks for a decision as the SDK's servers do. That call knows no context, so it
// is left behind when the time is over.
func (a *app) authorize(ctx context.Context, c command) (answer, error) {
	type outcome struct {
		decision *api.AgentAuthorize
		err      error
	}
	outcomes := make(chan outcome, 1)
	go func() {
		decision, err := a.client.Agent().ConnectAuthorize(&api.AgentAuthorizeParams{
			Target:        c.Target,
			ClientCertURI: c.URI,
		})
		outcomes <- outcome{decision, err}
	}()
	select {
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case o := <-outcomes:
		if o.err != nil {
			return answer{}, o.err
		}
		return answer{Authorized: o.decision.Authorized, Reason: o.decision.Reason}, nil
	}
}

// leaf asks for a leaf, blocking when there is an index.
func (a *app) leaf(ctx context.Context, c command) (answer, error) {
	leaf, meta, err := a.client.Agent().ConnectCALeaf(c.Name, query(ctx, c))
	if err != nil {
		return answer{}, err
	}
	return answer{
		Serial:      leaf.SerialNumber,
		URI:         leaf.ServiceURI,
		ValidBefore: leaf.ValidBefore.Format(time.RFC3339),
		Index:       meta.LastIndex,
	}, nil
}

// roots asks for the trust bundle, blocking when there is an index.
func (a *app) roots(ctx context.Context, c command) (answer, error) {
	ask := a.client.Agent().ConnectCARoots
	if c.Uncached {
		ask = a.client.Connect().CARoots
	}
	list, meta, err := ask(query(ctx, c))
	if err != nil {
		return answer{}, err
	}
	result := answer{Active: list.ActiveRootID, TrustDomain: list.TrustDomain, Index: meta.LastIndex}
	for _, root := range list.Roots {
		result.Roots = append(result.Roots, root.ID)
	}
	return result, nil
}

func query(ctx context.Context, c command) *api.QueryOptions {
	q := &api.QueryOptions{WaitIndex: c.Index, WaitTime: time.Duration(c.Wait)}
	return q.WithContext(ctx)
}
