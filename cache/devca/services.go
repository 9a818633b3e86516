package devca

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// registered is a service with the index of its registration.
type registered struct {
	Service
	index    uint64
	fromFile bool
}

// AddService registers a native service on this host, in the place of one with
// the same ID. The ID is the name if it is empty.
func (a *Authority) AddService(s Service) error {
	if !intentions.ValidName(s.Name) || s.Port < 1 || s.Port > 65535 {
		return fmt.Errorf("register service %q with port %d: use a name of letters, digits, dots, "+
			"dashes and underscores, and a port from 1 to 65535", s.Name, s.Port)
	}
	s.ID, s.Native = cmp.Or(s.ID, s.Name), true
	index := a.signer.next()
	a.mu.Lock()
	defer a.mu.Unlock()
	list := append(a.state.without(s.ID), registered{Service: s, index: index})
	a.change(func(st *state) { st.services = sorted(list) })
	return nil
}

// RemoveService takes a registered service away. One from a file comes back
// when the files change.
func (a *Authority) RemoveService(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.state.without(id)
	a.change(func(s *state) { s.services = list })
}

func (s *state) without(id string) []registered {
	list := slices.Clone(s.services)
	return slices.DeleteFunc(list, func(r registered) bool { return r.ID == id })
}

// withFileServices returns the services with those of files replaced. A
// service that was added by a call stays as it is.
func (s *state) withFileServices(defined []Service, index uint64) []registered {
	list := slices.DeleteFunc(slices.Clone(s.services), func(r registered) bool { return r.fromFile })
	taken := map[string]bool{}
	for _, r := range list {
		taken[r.ID] = true
	}
	for _, d := range defined {
		if !taken[d.ID] {
			list = append(list, registered{Service: d, index: s.indexOf(d, index), fromFile: true})
		}
	}
	return sorted(list)
}

// indexOf keeps the index of a definition that says the same as before.
func (s *state) indexOf(d Service, index uint64) uint64 {
	for _, r := range s.services {
		if r.fromFile && sameService(r.Service, d) {
			return r.index
		}
	}
	return index
}

func sameService(a, b Service) bool {
	a.Place = b.Place
	return reflect.DeepEqual(a, b)
}

func sorted(list []registered) []registered {
	slices.SortFunc(list, func(a, b registered) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// local lists the native services; it is never nil.
func (s *state) local() []cache.LocalService {
	list := []cache.LocalService{}
	for _, r := range s.services {
		if r.Native {
			list = append(list, cache.LocalService{
				Service: intentions.NewService(r.Name), ID: r.ID, Address: r.Address, Port: r.Port,
			})
		}
	}
	return list
}
