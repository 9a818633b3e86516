package daemon

import (
	"errors"
	"fmt"
	"slices"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

var knownGrants = []string{
	string(socketapi.GrantLeaf), string(socketapi.GrantAuthorize),
	string(socketapi.GrantDiscover), string(socketapi.GrantStatus),
}

// applyServices checks the service blocks: what could grant more than was
// meant is an error.
func (c *Config) applyServices(shapes []serviceShape) error {
	seen := map[string]bool{}
	var problems []error
	for _, s := range shapes {
		if err := checkService(s, seen); err != nil {
			problems = append(problems, fmt.Errorf("line %d: service %q: %w", s.Range.Start.Line, s.Name, err))
			continue
		}
		service := ServiceConfig{Name: s.Name, TokenFile: s.TokenFile, AllowAnyService: s.AllowAnyService}
		for _, a := range s.Allow {
			if err := checkAllow(a); err != nil {
				problems = append(problems, fmt.Errorf("line %d: service %q: %w", a.Range.Start.Line, s.Name, err))
			}
			service.Allow = append(service.Allow, AllowConfig{User: orEmpty(a.User), Group: orEmpty(a.Group), Grants: a.Grants})
		}
		c.Services = append(c.Services, service)
	}
	return errors.Join(problems...)
}

func checkService(s serviceShape, seen map[string]bool) error {
	switch {
	case seen[s.Name]:
		return errors.New("there is another block for this service; one service has one block")
	case s.Name == intentions.Wildcard && !s.AllowAnyService:
		return errors.New("a block for every service must say allow_any_service = true")
	case s.Name == intentions.Wildcard && s.TokenFile != "":
		return errors.New("a token signs for one service; name the service")
	case s.Name != intentions.Wildcard && s.AllowAnyService:
		return errors.New("allow_any_service belongs to service \"*\" only")
	case s.Name != intentions.Wildcard && !intentions.ValidName(s.Name):
		return errors.New("the name is not valid: use letters, digits, '.', '-' and '_'")
	}
	seen[s.Name] = true
	return nil
}

var errNoSelector = errors.New("an allow block without a selector would admit everybody; give user or group")

func checkAllow(a allowShape) error {
	switch {
	case a.User == nil && a.Group == nil:
		return errNoSelector
	case a.User != nil && *a.User == "", a.Group != nil && *a.Group == "":
		return errors.New("an empty selector would be one less to match; give it a value or remove it")
	case a.Grants != nil && len(a.Grants) == 0:
		return errors.New("an empty list of grants would give all of them; name some or remove it")
	}
	for _, g := range a.Grants {
		if !slices.Contains(knownGrants, g) {
			return fmt.Errorf("unknown grant %q; the grants are %v", g, knownGrants)
		}
	}
	return nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// watched lists the services that are named in the configuration.
func (c *Config) watched() []intentions.Service {
	var out []intentions.Service
	for _, s := range c.Services {
		if s.Name != intentions.Wildcard {
			out = append(out, intentions.NewService(s.Name))
		}
	}
	return out
}

// tokenFiles lists the services that bring their own token.
func (c *Config) tokenFiles() map[intentions.Service]string {
	out := map[intentions.Service]string{}
	for _, s := range c.Services {
		if s.TokenFile != "" {
			out[intentions.NewService(s.Name)] = s.TokenFile
		}
	}
	return out
}
