package daemon

import (
	"slices"
	"strings"

	"github.com/connectd/connectd/intentions"
)

// rights lists what the rules give, one line a block, in order. Two sets of
// rules with the same lines admit the same processes.
func (r *rules) rights() []string {
	out := []string{}
	for s, list := range r.byService {
		for i := range list {
			out = append(out, "service "+s.Name+": "+list[i].text())
		}
	}
	for i := range r.anyService {
		out = append(out, "any service: "+r.anyService[i].text())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// text says a rule in one line.
func (r *rule) text() string {
	var parts []string
	for _, s := range r.selectors {
		parts = append(parts, s.want())
	}
	grants := "leaf, authorize, discover, status"
	if len(r.grants) > 0 {
		var given []string
		for _, g := range knownGrants {
			for _, have := range r.grants {
				if string(have) == g {
					given = append(given, g)
				}
			}
		}
		grants = strings.Join(slices.Compact(given), ", ")
	}
	return strings.Join(parts, " and ") + " has " + grants
}

// doorRight is the line of a service's own socket.
func doorRight(name string, d *DoorConfig) string {
	return "service " + name + ": whoever may open " + d.Path + " (owner " + orDefault(d.Owner) + ", group " +
		orDefault(d.Group) + ", mode " + modeText(d.Mode) + ") has leaf, authorize, discover, status"
}

// Rights lists what a configuration gives to whom, one line a block.
func (c *Config) Rights() ([]string, error) {
	m, err := newRuleMaker(*c)
	if err != nil {
		return nil, err
	}
	r, err := m.rules(c.Services)
	if err != nil {
		return nil, err
	}
	out := r.rights()
	for _, s := range c.Services {
		if s.Socket != nil {
			out = append(out, doorRight(s.Name, s.Socket))
		}
	}
	slices.Sort(out)
	return out, nil
}

func orDefault(name string) string {
	if name == "" {
		return "the daemon's"
	}
	return name
}

// wildcard is the name of the block for every service.
const wildcard = intentions.Wildcard
