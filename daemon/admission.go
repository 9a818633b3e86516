package daemon

import (
	"slices"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// rules admit local processes by what the kernel reports of them. They are
// immutable.
type rules struct {
	// byService holds the rules of named services, anyService those of "*".
	byService  map[intentions.Service][]rule
	anyService []rule
	// complaints are what keeps single rules from matching anybody.
	complaints []socketapi.Complaint
}

// ownUser admits one uid for every service.
func ownUser(uid uint32) *rules {
	return &rules{anyService: []rule{{selectors: []selector{userSelector{id: uid, known: true}}}}}
}

// newRules looks names up once. What cannot be meant is an error; a name that
// nobody has yet, or a rule that this kernel cannot check, matches nobody and
// is complained about.
func newRules(services []ServiceConfig) (*rules, error) {
	return ruleMaker{names: systemNames(), pins: true}.rules(services)
}

// empty reports whether nobody can be admitted.
func (r *rules) empty() bool { return len(r.byService) == 0 && len(r.anyService) == 0 }

// rule admits a process that all of its selectors match; one without any
// admits nobody.
type rule struct {
	// number is the place of the block in its service, from 1.
	number    int
	selectors []selector
	grants    []socketapi.Grant
}

// Admit implements socketapi.Admission. What no rule allows is refused.
func (r *rules) Admit(p socketapi.Peer, g socketapi.Grant, s intentions.Service) bool {
	if admits(r.anyService, &p, g) {
		return true
	}
	if s.Name != "" {
		return admits(r.byService[s], &p, g)
	}
	for _, list := range r.byService {
		if admits(list, &p, g) {
			return true
		}
	}
	return false
}

func admits(list []rule, p *socketapi.Peer, g socketapi.Grant) bool {
	for i := range list {
		if list[i].admits(p, g) {
			return true
		}
	}
	return false
}

func (r *rule) admits(p *socketapi.Peer, g socketapi.Grant) bool {
	if len(r.selectors) == 0 || !r.gives(g) {
		return false
	}
	for _, s := range r.selectors {
		if !s.matches(p) {
			return false
		}
	}
	return true
}

func (r *rule) gives(g socketapi.Grant) bool {
	return g == socketapi.GrantAny || len(r.grants) == 0 || slices.Contains(r.grants, g)
}

// onlyService is the admission of a service's own socket: whoever may open it
// is admitted, for that service alone.
type onlyService intentions.Service

func (o onlyService) Admit(_ socketapi.Peer, _ socketapi.Grant, s intentions.Service) bool {
	return s.Name == "" || s == intentions.Service(o)
}
