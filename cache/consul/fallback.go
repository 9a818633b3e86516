package consul

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const (
	selfPath      = "/v1/agent/self"
	authorizePath = "/v1/agent/connect/authorize"
	leaderPath    = "/v1/status/leader"
)

// defaultEvery is how often the default action is read again: it is the
// agent's configuration, so it changes when the agent restarts.
const defaultEvery = 60 * time.Second

// pollDefault keeps the default action current, and with it how requests are
// normalized: a policy needs both.
func (s *Source) pollDefault(ctx context.Context, feed cache.Feed) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = probeEvery, defaultEvery
	for {
		woken := s.woken.wait()
		u, err := s.readDefault(ctx, feed)
		if n, failed := s.readNormalization(ctx); failed == nil {
			u.Normalization = &n
		} else if err == nil {
			// A default action without it could open a policy too early.
			u, err = cache.Update{}, failed
		}
		if ctx.Err() != nil {
			return nil
		}
		x := cache.Condition{Watch: cache.WatchDefault}
		next := defaultEvery
		if err != nil {
			x.Failure = asFailure(err)
			next = pauses.NextBackOff()
		} else {
			pauses.Reset()
		}
		u.Conditions = append(u.Conditions, x)
		if feed.Publish(ctx, u) != nil {
			return nil
		}
		pause(ctx, next, woken)
	}
}

// readDefault asks the agent for its settings, and if the token may not read
// them, probes. Where neither is possible the action is deny.
func (s *Source) readDefault(ctx context.Context, feed cache.Feed) (cache.Update, error) {
	u, err := s.readSelf(ctx)
	if !isRefused(err) {
		return u, err
	}
	d, err := s.probeDefault(ctx, feed)
	if err == nil {
		return cache.Update{Default: &d}, nil
	}
	if !isRefused(err) {
		return cache.Update{}, err
	}
	unknown := intentions.DefaultAction{Origin: intentions.OriginUnknown}
	return cache.Update{Default: &unknown}, &cache.Failure{Kind: cache.FailureRefused, Message: "the default " +
		"action cannot be read, so it is deny: give the read token agent:read, or a service a token with " +
		"service:write, or set default_action in the configuration"}
}

// selfAnswer is what counts in the agent's description of itself.
type selfAnswer struct {
	Config struct {
		Datacenter, NodeName string
	}
	DebugConfig *struct {
		DefaultIntentionPolicy *string
		ACLsEnabled            *bool
		ACLResolverSettings    struct{ ACLDefaultPolicy *string }
	}
}

// fallback reads the default action, if the answer tells it. Consul promises
// nothing about this part, and a setting that is missing must not be taken for
// one that allows.
func (a *selfAnswer) fallback() (intentions.DefaultAction, bool) {
	c := a.DebugConfig
	if c == nil || c.DefaultIntentionPolicy == nil || c.ACLsEnabled == nil {
		return intentions.DefaultAction{}, false
	}
	acl := c.ACLResolverSettings.ACLDefaultPolicy
	switch {
	case *c.DefaultIntentionPolicy != "":
		return intentions.DefaultAction{Allow: *c.DefaultIntentionPolicy == "allow", Origin: intentions.OriginAgent}, true
	case !*c.ACLsEnabled:
		return intentions.DefaultAction{Allow: true, Origin: intentions.OriginACL}, true
	case acl == nil:
		return intentions.DefaultAction{}, false
	}
	return intentions.DefaultAction{Allow: *acl == "allow", Origin: intentions.OriginACL}, true
}

func (s *Source) readSelf(ctx context.Context) (cache.Update, error) {
	a, err := s.get(ctx, request{path: selfPath, token: s.read.value()})
	if err != nil {
		return cache.Update{}, err
	}
	var self selfAnswer
	if err := json.Unmarshal(a.body, &self); err != nil || self.Config.NodeName == "" {
		return cache.Update{}, invalid("Consul's description of the agent cannot be read")
	}
	d, told := self.fallback()
	if !told {
		return cache.Update{}, &cache.Failure{Kind: cache.FailureRefused,
			Message: "the agent's description of itself lacks the default action"}
	}
	return cache.Update{Default: &d, Datacenter: self.Config.Datacenter, Node: self.Config.NodeName}, nil
}

// probeDefault asks the agent to authorize a source in a namespace that cannot
// exist in Community Edition, so that only the default action can answer. It
// needs service:write on its target, which a service's own token has.
func (s *Source) probeDefault(ctx context.Context, feed cache.Feed) (intentions.DefaultAction, error) {
	if enterprise, err := s.isEnterprise(ctx); err != nil || enterprise {
		if err == nil {
			err = &cache.Failure{Kind: cache.FailureRefused, Message: "no probe on Enterprise"}
		}
		return intentions.DefaultAction{}, err
	}
	target, ok := s.probeTarget(feed)
	if !ok {
		return intentions.DefaultAction{}, &cache.Failure{Kind: cache.FailureRefused, Message: "nothing to probe with"}
	}
	body, err := json.Marshal(map[string]string{
		"Target":        target.Name,
		"ClientCertURI": "spiffe://probe.consul/ns/connectd-default-probe/dc/dc1/svc/probe",
	})
	if err != nil {
		return intentions.DefaultAction{}, err
	}
	return s.postProbe(ctx, s.tokenFor(target).value(), body)
}

func (s *Source) postProbe(ctx context.Context, t cache.Secret, body []byte) (intentions.DefaultAction, error) {
	a, err := s.get(ctx, request{path: authorizePath, token: t, body: body})
	if err != nil {
		return intentions.DefaultAction{}, err
	}
	var out struct {
		Authorized bool
		Reason     string
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		return intentions.DefaultAction{}, invalid("Consul's authorize answer cannot be read")
	}
	switch out.Reason {
	case "Default intention policy":
		return intentions.DefaultAction{Allow: out.Authorized, Origin: intentions.OriginAgent}, nil
	case "Default behavior configured by ACLs":
		return intentions.DefaultAction{Allow: out.Authorized, Origin: intentions.OriginACL}, nil
	}
	return intentions.DefaultAction{}, invalid("an intention answered the probe for the default action: %s", out.Reason)
}

// probeTarget is always the same while the configuration is: the first service
// with its own token, else the first that is watched.
func (s *Source) probeTarget(feed cache.Feed) (intentions.Service, bool) {
	wants, _ := feed.Wanted()
	for _, w := range wants {
		if s.services[w.Service] != nil {
			return w.Service, true
		}
	}
	if len(s.services) > 0 {
		return slices.MinFunc(slices.Collect(maps.Keys(s.services)), func(a, b intentions.Service) int {
			return cmp.Compare(a.String(), b.String())
		}), true
	}
	if len(wants) > 0 {
		return wants[0].Service, true
	}
	return intentions.Service{}, false
}

// isEnterprise tells the editions apart: Community Edition refuses every
// namespace parameter.
func (s *Source) isEnterprise(ctx context.Context) (bool, error) {
	resp, body, err := s.send(ctx, request{path: leaderPath, query: map[string][]string{"ns": {"default"}}})
	if err != nil {
		return false, err
	}
	community := resp.StatusCode == http.StatusBadRequest &&
		bytes.Contains(body, []byte("Enterprise feature"))
	if !community && resp.StatusCode != http.StatusOK && !strings.Contains(string(body), "namespace") {
		return false, statusFailure(resp.StatusCode, body)
	}
	return !community, nil
}
