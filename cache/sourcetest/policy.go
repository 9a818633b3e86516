package sourcetest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

func defaultActionIsReported(s *stage) {
	r, _ := s.record()
	want := s.f.Default()
	r.wait(fmt.Sprintf("default action %+v", want), func(x *seen) bool {
		return x.fallback != nil && *x.fallback == want
	})
}

func localServicesComeAndGo(s *stage) {
	one, two := s.service("one"), s.service("two")
	r, _ := s.record()
	r.wait("list of local services", func(x *seen) bool { return x.local != nil && !x.isLocal(one) })
	for _, service := range []intentions.Service{one, two} {
		s.register(service)
		r.wait("local service "+service.Name, func(x *seen) bool { return x.isLocal(service) })
	}
	s.deregister(one)
	r.wait("end of "+one.Name, func(x *seen) bool { return !x.isLocal(one) && x.isLocal(two) })
	r.look(func(x *seen) {
		for _, l := range x.local {
			if l.ID == "" {
				s.t.Errorf("local service %+v has no ID", l)
			}
		}
	})
}

func rowsIncludeWildcards(s *stage) {
	db, none := s.service("db"), s.service("none")
	r, _ := s.record(policyWant(db), leafWant(none))
	r.waitRows(db)
	r.waitRows(none)
	s.intend(db.Name, map[string]string{"web": "allow", "*": "deny"})
	r.waitRows(db, "web>"+db.Name+" allow", "*>"+db.Name+" deny")
	s.intend("*", map[string]string{"ops": "allow"})
	r.waitRows(db, "web>"+db.Name+" allow", "*>"+db.Name+" deny", "ops>* allow")
	r.waitRows(none, "ops>* allow")
	s.f.DeleteIntentions(s.t, db.Name)
	r.waitRows(db, "ops>* allow")
	s.f.DeleteIntentions(s.t, "*")
	r.waitRows(db)
	r.waitRows(none)
}

func flipsAreSeenPromptly(s *stage) {
	db := s.service("db")
	s.intend(db.Name, map[string]string{"web": "deny"})
	r, _ := s.record(policyWant(db))
	r.waitRows(db, "web>"+db.Name+" deny")
	for _, action := range []string{"allow", "deny", "allow"} {
		s.f.SetIntentions(s.t, db.Name, map[string]string{"web": action})
		if took := r.waitRows(db, "web>"+db.Name+" "+action); took > s.h.Prompt {
			s.t.Errorf("the change to %s was seen after %s, want %s at most", action, took, s.h.Prompt)
		}
	}
}

// actions alternate, beginning with allow.
func actions(n int) []string {
	return slices.Repeat([]string{"allow", "deny"}, n/2)
}

// lastOfTenFlipsStays flips without waiting: states in between may be missed,
// the last one may not.
func lastOfTenFlipsStays(s *stage) {
	db := s.service("db")
	s.intend(db.Name, map[string]string{"web": "deny"})
	r, _ := s.record(policyWant(db))
	r.waitRows(db, "web>"+db.Name+" deny")
	for i, action := range actions(10) {
		s.f.SetIntentions(s.t, db.Name, map[string]string{"web": action, fmt.Sprintf("flip-%d", i): "deny"})
	}
	r.waitRows(db, "flip-9>"+db.Name+" deny", "web>"+db.Name+" deny")
}

func destinationCaseIsIgnored(s *stage) {
	lower, upper := s.service("small"), s.service("large")
	upper.Name = strings.ToUpper(upper.Name)
	r, _ := s.record(policyWant(lower), policyWant(upper))
	written := strings.ToUpper(lower.Name)
	s.intend(written, map[string]string{"web": "allow"})
	r.waitRows(lower, "web>"+written+" allow")
	written = strings.ToLower(upper.Name)
	s.intend(written, map[string]string{"Web": "allow"})
	r.waitRows(upper, "Web>"+written+" allow")
}

// changingWantsLoseNothing changes intentions of a watched service while the
// queries that it shares with others are taken up anew.
func changingWantsLoseNothing(s *stage) {
	steady := s.service("steady")
	s.intend(steady.Name, map[string]string{"web": "deny"})
	r, _ := s.record(policyWant(steady))
	r.waitRows(steady, "web>"+steady.Name+" deny")
	var added []intentions.Service
	for i, action := range actions(6) {
		service := s.service(fmt.Sprintf("added-%d", i))
		added = append(added, service)
		s.intend(service.Name, map[string]string{"api": action})
		r.want(policyWant(service))
		if i >= 3 {
			r.unwant(added[i-3])
		}
		s.f.SetIntentions(s.t, steady.Name, map[string]string{"web": action})
		r.waitRows(steady, "web>"+steady.Name+" "+action)
	}
	for i, action := range actions(6)[3:] {
		r.waitRows(added[i+3], "api>"+added[i+3].Name+" "+action)
	}
	s.f.SetIntentions(s.t, added[5].Name, map[string]string{"api": "allow"})
	r.waitRows(added[5], "api>"+added[5].Name+" allow")
}

// discoveryFollowsRegistration applies to sources that can tell where services
// are.
func discoveryFollowsRegistration(s *stage) {
	source := s.f.Source(s.t)
	d, able := source.(cache.Discoverer)
	if !able {
		s.t.Skip("the source offers no discovery")
	}
	r := newRecorder(s.t, s.h.Patience, nil)
	s.run("source", func(ctx context.Context) error { return source.Run(ctx, r) })
	service := s.service("web")
	lookup := cache.Lookup{Service: service, Mesh: true}
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*s.h.Patience)
	defer cancel()
	var have *cache.Discovered
	until := func(instances int) {
		for have == nil || len(have.Instances) != instances {
			found, err := d.Discover(ctx, lookup, have)
			if err != nil {
				s.t.Fatalf("waiting for %d instances: %v", instances, err)
			}
			have = found
		}
	}
	until(0)
	if string(have.Body) != "[]" {
		s.t.Errorf("got body %s for no instances, want []", have.Body)
	}
	s.register(service)
	until(1)
	if got := have.Instances[0]; got.Service != service || got.Address == "" || got.Port == 0 || got.Datacenter == "" {
		s.t.Errorf("got instance %+v", got)
	}
	s.deregister(service)
	until(0)
}
