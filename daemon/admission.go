package daemon

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// rules admit local processes by the ids that the kernel reports. They are
// immutable.
type rules struct {
	// byService holds the rules of named services, anyService those of "*".
	byService  map[intentions.Service][]rule
	anyService []rule
}

// rule admits a process whose ids all match; an absent id matches everybody.
type rule struct {
	uid, gid *uint32
	grants   []socketapi.Grant
}

// newRules looks names up once.
func newRules(services []ServiceConfig) (*rules, error) {
	r := &rules{byService: map[intentions.Service][]rule{}}
	for _, s := range services {
		for _, a := range s.Allow {
			one, err := newRule(a)
			if err != nil {
				return nil, fmt.Errorf("service %q: %w", s.Name, err)
			}
			if s.AllowAnyService {
				r.anyService = append(r.anyService, one)
			} else {
				key := intentions.NewService(s.Name)
				r.byService[key] = append(r.byService[key], one)
			}
		}
	}
	return r, nil
}

// empty reports whether nobody can be admitted.
func (r *rules) empty() bool { return len(r.byService) == 0 && len(r.anyService) == 0 }

// ownUser admits one uid for every service.
func ownUser(uid uint32) *rules {
	return &rules{anyService: []rule{{uid: &uid}}}
}

func newRule(a AllowConfig) (rule, error) {
	var r rule
	if a.User == "" && a.Group == "" {
		return r, errNoSelector
	}
	if a.User != "" {
		id, err := userID(a.User)
		if err != nil {
			return r, err
		}
		r.uid = &id
	}
	if a.Group != "" {
		id, err := groupID(a.Group)
		if err != nil {
			return r, err
		}
		r.gid = &id
	}
	for _, g := range a.Grants {
		r.grants = append(r.grants, socketapi.Grant(g))
	}
	return r, nil
}

// overflowID is the id that the kernel shows for users of other namespaces.
const overflowID = 65534

// unknownID stands for a peer whose ids could not be read; chown takes it as
// "no change".
const unknownID = 1<<32 - 1

// namesNobody reports the ids of everybody who cannot be told apart.
func namesNobody(id uint32) bool { return id == overflowID || id == unknownID }

func userID(name string) (uint32, error) {
	if u, err := user.Lookup(name); err == nil {
		name = u.Uid
	}
	return numericID("user", name)
}

func groupID(name string) (uint32, error) {
	if g, err := user.LookupGroup(name); err == nil {
		name = g.Gid
	}
	return numericID("group", name)
}

func numericID(kind, text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s %q does not exist on this host", kind, text)
	}
	if namesNobody(uint32(id)) {
		return 0, fmt.Errorf("%s %q is the id of everybody whom the kernel cannot name; it cannot be admitted", kind, text)
	}
	return uint32(id), nil
}

// Admit implements socketapi.Admission. What no rule allows is refused.
func (r *rules) Admit(p socketapi.Peer, g socketapi.Grant, s intentions.Service) bool {
	if admits(r.anyService, p, g) {
		return true
	}
	if s.Name != "" {
		return admits(r.byService[s], p, g)
	}
	for _, list := range r.byService {
		if admits(list, p, g) {
			return true
		}
	}
	return false
}

func admits(list []rule, p socketapi.Peer, g socketapi.Grant) bool {
	return slices.ContainsFunc(list, func(r rule) bool { return r.admits(p, g) })
}

func (r *rule) admits(p socketapi.Peer, g socketapi.Grant) bool {
	if r.uid != nil && *r.uid != p.UID || r.gid != nil && *r.gid != p.GID {
		return false
	}
	return g == socketapi.GrantAny || len(r.grants) == 0 || slices.Contains(r.grants, g)
}
