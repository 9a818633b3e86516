package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

var knownGrants = []string{
	string(socketapi.GrantLeaf), string(socketapi.GrantAuthorize),
	string(socketapi.GrantDiscover), string(socketapi.GrantStatus),
}

// applyServices checks the service blocks of one file: what could grant more
// than was meant is an error.
func (a *assembly) applyServices(file string, shapes []serviceShape) error {
	var problems []error
	for _, s := range shapes {
		if err := checkService(s, a.services, file); err != nil {
			problems = append(problems, fmt.Errorf("line %d: service %q: %w", s.Range.Start.Line, s.Name, err))
			continue
		}
		service := ServiceConfig{Name: s.Name, TokenFile: s.TokenFile, AllowAnyService: s.AllowAnyService}
		for _, one := range s.Allow {
			if err := checkAllow(one); err != nil {
				problems = append(problems, fmt.Errorf("line %d: service %q: %w", one.Range.Start.Line, s.Name, err))
			}
			service.Allow = append(service.Allow, AllowConfig{
				User: orEmpty(one.User), Group: orEmpty(one.Group), Unit: orEmpty(one.Unit),
				Cgroup: orEmpty(one.Cgroup), Container: orEmpty(one.Container), Grants: one.Grants,
			})
		}
		if s.Socket != nil {
			door, err := a.door(s.Socket)
			if err != nil {
				problems = append(problems, fmt.Errorf("line %d: service %q: socket: %w", s.Socket.Range.Start.Line, s.Name, err))
			}
			service.Socket = door
		}
		a.config.Services = append(a.config.Services, service)
	}
	return errors.Join(problems...)
}

// door checks the block of a service's own socket.
func (a *assembly) door(shape *doorShape) (*DoorConfig, error) {
	d := &DoorConfig{Path: shape.Path, Owner: shape.Owner, Group: shape.Group, Mode: 0o600}
	if !filepath.IsAbs(d.Path) || filepath.Clean(d.Path) != d.Path {
		return nil, fmt.Errorf("path %q is not an absolute path in its plain form", d.Path)
	}
	if a.paths[d.Path] {
		return nil, fmt.Errorf("path %s is another service's socket", d.Path)
	}
	a.paths[d.Path] = true
	if shape.Mode == "" {
		return d, nil
	}
	var err error
	d.Mode, err = parseMode(shape.Mode)
	return d, err
}

// checkPaths keeps each socket's path to itself.
func (c *Config) checkPaths() error {
	for _, s := range c.Services {
		if s.Socket != nil && (s.Socket.Path == c.Socket.Path || s.Socket.Path == c.AdminPath()) {
			return fmt.Errorf("service %q: its socket %s is the daemon's own", s.Name, s.Socket.Path)
		}
	}
	return nil
}

func checkService(s serviceShape, seen map[string]string, file string) error {
	switch {
	case seen[s.Name] == file:
		return errors.New("there is another block for this service; one service has one block")
	case seen[s.Name] != "":
		return fmt.Errorf("%s has a block for this service; one service has one block in one file", seen[s.Name])
	case s.Name == intentions.Wildcard && !s.AllowAnyService:
		return errors.New("a block for every service must say allow_any_service = true")
	case s.Name == intentions.Wildcard && s.TokenFile != "":
		return errors.New("a token signs for one service; name the service")
	case s.Name == intentions.Wildcard && s.Socket != nil:
		return errors.New("a service's own socket admits everybody who may open it; name the service")
	case s.Name != intentions.Wildcard && s.AllowAnyService:
		return errors.New("allow_any_service belongs to service \"*\" only")
	case s.Name != intentions.Wildcard && !intentions.ValidName(s.Name):
		return errors.New("the name is not valid: use letters, digits, '.', '-' and '_'")
	}
	seen[s.Name] = file
	return nil
}

var errNoSelector = errors.New("an allow block without a selector would admit everybody; " +
	"give user, group, unit, cgroup or container")

func checkAllow(a allowShape) error {
	selectors := 0
	for _, s := range []*string{a.User, a.Group, a.Unit, a.Cgroup, a.Container} {
		if s == nil {
			continue
		}
		if *s == "" {
			return errors.New("an empty selector would be one less to match; give it a value or remove it")
		}
		selectors++
	}
	switch {
	case selectors == 0:
		return errNoSelector
	case a.Grants != nil && len(a.Grants) == 0:
		return errors.New("an empty list of grants would give all of them; name some or remove it")
	case a.Unit != nil && !validUnit(*a.Unit):
		return fmt.Errorf("unit %q is not the whole name of a system unit such as \"web.service\"", *a.Unit)
	case a.Container != nil && !isContainerID(*a.Container):
		return fmt.Errorf("container %q is not the whole id, 64 lower-case hexadecimal digits", *a.Container)
	}
	if a.Cgroup != nil {
		if err := checkCgroup(*a.Cgroup); err != nil {
			return err
		}
	}
	for _, g := range a.Grants {
		if !slices.Contains(knownGrants, g) {
			return fmt.Errorf("unknown grant %q; the grants are %v", g, knownGrants)
		}
	}
	return nil
}

// validUnit reports whether a name is one whole unit of a kind that processes
// run in.
func validUnit(name string) bool {
	if strings.ContainsAny(name, "/*?[] \t\n") {
		return false
	}
	for _, kind := range []string{".service", ".scope", ".socket", ".mount", ".swap"} {
		if before, ok := strings.CutSuffix(name, kind); ok {
			return before != "" && !strings.HasSuffix(before, "@")
		}
	}
	return false
}

// checkCgroup wants the whole path of one group. The id of a container is all
// that may be left open, where only a runtime makes names of that form.
func checkCgroup(path string) error {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok || rest == "" {
		return fmt.Errorf("cgroup %q is not an absolute path below /", path)
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("cgroup %q is not in its plain form", path)
		}
		open := strings.ReplaceAll(segment, anyID, "")
		if strings.ContainsAny(open, "*?[]<>\n") {
			return fmt.Errorf("cgroup %q: names are compared whole; only %s stands for a container's id", path, anyID)
		}
		if open != segment && !slices.Contains(containerScopes, segment) {
			return fmt.Errorf("cgroup %q: %s belongs into the scope of a container, one of %v", path, anyID, containerScopes)
		}
	}
	return nil
}

// containerScopes are the names that container runtimes give.
var containerScopes = []string{
	"docker-" + anyID + ".scope", "libpod-" + anyID + ".scope",
	"cri-containerd-" + anyID + ".scope", "crio-" + anyID + ".scope",
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
