package socketapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// ConnectAuthorizeRequest is the body of the agent's authorize route. Its name
// is part of the error texts of the JSON package.
type ConnectAuthorizeRequest struct {
	Target           string
	ClientCertURI    string
	ClientCertSerial string
}

// authorizeQuestion is a parsed body: the target as written, and the source.
type authorizeQuestion struct {
	target string
	source intentions.ID
}

// consulTarget reads the body in the agent's order of checks and finds the
// target in it.
func consulTarget(c *call) ([]intentions.Service, error) {
	if err := refuseEnterprise(c); err != nil {
		return nil, err
	}
	var in ConnectAuthorizeRequest
	d := json.NewDecoder(c.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, &consulError{http.StatusBadRequest, "Request decode failed: " + err.Error()}
	}
	if in.Target == "" {
		return nil, &consulError{http.StatusBadRequest, "Target service must be specified"}
	}
	source, err := intentions.ParseURI(in.ClientCertURI)
	if err != nil {
		return nil, &consulError{http.StatusBadRequest, "ClientCertURI " + err.Error()}
	}
	c.body = authorizeQuestion{in.Target, source}
	return []intentions.Service{intentions.NewService(in.Target)}, nil
}

// consulAuthorize decides as the agent does: permissions always deny, and the
// trust domain of the source is not looked at.
func (a *api) consulAuthorize(c *call) error {
	q := c.body.(authorizeQuestion)
	if p := q.source.Service.Partition; p != intentions.DefaultPart {
		return &consulError{http.StatusBadRequest,
			fmt.Sprintf("Mismatched partitions: %q != %q", p, intentions.DefaultPart)}
	}
	policy, age, err := a.policyForTarget(c, q.target)
	if err != nil {
		if errors.Is(err, errCallerGone) {
			return err
		}
		return &consulError{http.StatusInternalServerError, "failed getting intention match: " + err.Error()}
	}
	authorized, reason := consulVerdict(policy, q.source)
	if age > a.cfg.Cache.MaxStale() {
		authorized, reason = false, "policy_stale: upstream last confirmed the intentions "+age.Round(time.Second).String()+" ago"
	}
	c.agentHeaders()
	c.cacheHeaders(0)
	return c.json(struct {
		Authorized bool
		Reason     string
	}{authorized, reason})
}

// policyForTarget finds the policy of a target as written. Only names that a
// service can have are watched; a name with a slash is nobody's, so only the
// intentions for all destinations apply to it; any other is read live.
func (a *api) policyForTarget(c *call, target string) (*cache.PolicyPart, time.Duration, error) {
	destination := intentions.NewService(target)
	if strings.Contains(target, "/") {
		destination.Name = intentions.Wildcard
	}
	if destination.Name != intentions.Wildcard && !intentions.ValidName(destination.Name) {
		if a.cfg.Upstream == nil {
			return nil, 0, notReady("there is no upstream to read the intentions of %q from", clip(target))
		}
		part, err := a.livePolicy(c, destination)
		return part, 0, err
	}
	c.services = []intentions.Service{destination}
	s, err := c.watched(blocking{}, false, hasPolicy)
	if err != nil {
		return nil, 0, err
	}
	return s.Policy, s.Age(time.Now()), nil
}

func consulVerdict(p *cache.PolicyPart, source intentions.ID) (bool, string) {
	if number := p.Table.Match(source.Service); number > 0 {
		x := p.Intention(number)
		layer := "L4"
		if x.HasPermissions() {
			layer = "L7"
		}
		return x.ConsulAllows(), "Matched " + layer + " intention: " + x.String()
	}
	policy := p.Table.Policy()
	reason := "Default intention policy"
	if policy.DefaultOrigin == intentions.OriginACL {
		reason = "Default behavior configured by ACLs"
	}
	return policy.DefaultAction == "allow", reason
}
