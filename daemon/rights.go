package daemon

import (
	"os"
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
	r, err := admissionOf(*c, m, uint32(os.Geteuid()))
	if err != nil {
		return nil, err
	}
	return withDoors(r.rights(), c.Services), nil
}

// withDoors adds the lines of services' own sockets.
func withDoors(rights []string, services []ServiceConfig) []string {
	for _, s := range services {
		if s.Socket != nil {
			rights = append(rights, doorRight(s.Name, s.Socket))
		}
	}
	slices.Sort(rights)
	return rights
}

func orDefault(name string) string {
	if name == "" {
		return "the daemon's"
	}
	return name
}

// wildcard is the name of the block for every service.
const wildcard = intentions.Wildcard
