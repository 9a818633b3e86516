package sourcetest

import (
	"maps"
	"sync"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// cache runs a real cache over a new source.
func (s *stage) cache(store cache.Store, services ...intentions.Service) (*cache.Cache, func()) {
	s.t.Helper()
	c, err := cache.New(cache.Config{Source: s.f.Source(s.t), Store: store, Services: services})
	if err != nil {
		s.t.Fatalf("making a cache: %v", err)
	}
	return c, s.run("cache", c.Run)
}

// await returns the first snapshot of a service that meets the condition.
// Every one on the way is a consistent set.
func (s *stage) await(c *cache.Cache, service intentions.Service, what string, met func(x *cache.Snapshot) bool) *cache.Snapshot {
	s.t.Helper()
	late := time.NewTimer(s.h.Patience)
	defer late.Stop()
	for {
		_, setChanged := c.Wanted()
		x, changed := c.Snapshot(service)
		if x != nil {
			s.checkConsistent(x)
			if met(x) {
				return x
			}
		}
		select {
		case <-changed:
		case <-setChanged:
		case <-late.C:
			s.t.Fatalf("within %s there was no %s of %s; cause: %v", s.h.Patience, what, service, c.Cause(service))
		}
	}
}

func (s *stage) checkConsistent(x *cache.Snapshot) {
	s.t.Helper()
	if x.Leaf == nil {
		return
	}
	if x.Bundle == nil {
		s.t.Errorf("snapshot %d of %s has a leaf and no bundle", x.Index, x.Service)
		return
	}
	if err := x.Leaf.Leaf.Verify(x.Bundle.Bundle, time.Now()); err != nil {
		s.t.Errorf("snapshot %d of %s: %v", x.Index, x.Service, err)
	}
}

// allows reports whether web may reach the snapshot's service.
func allows(x *cache.Snapshot, web intentions.Service) bool {
	if x.Bundle == nil {
		return false
	}
	id := intentions.ID{TrustDomain: x.Bundle.Bundle.TrustDomain, Service: web, Datacenter: "any"}
	return x.Decide(id.String(), nil).Allowed()
}

func cacheFollowsUpstream(s *stage) {
	web, db := s.service("web"), s.service("db")
	s.intend(db.Name, map[string]string{web.Name: "allow"})
	c, _ := s.cache(nil, web, db)
	x := s.await(c, db, "ready snapshot", (*cache.Snapshot).Ready)
	s.await(c, web, "ready snapshot", (*cache.Snapshot).Ready)
	if !allows(x, web) || !x.Fresh(time.Now()) {
		s.t.Errorf("got allowed %v and fresh %v, want both", allows(x, web), x.Fresh(time.Now()))
	}
	for _, action := range []string{"deny", "allow", "deny"} {
		begin := time.Now()
		s.f.SetIntentions(s.t, db.Name, map[string]string{web.Name: action})
		s.await(c, db, "change to "+action, func(x *cache.Snapshot) bool { return allows(x, web) == (action == "allow") })
		if took := time.Since(begin); took > s.h.Prompt {
			s.t.Errorf("the change to %s was decided after %s, want %s at most", action, took, s.h.Prompt)
		}
	}
	old := x.Bundle.Bundle.ActiveRootID
	s.f.Rotate(s.t)
	for _, service := range []intentions.Service{web, db} {
		s.await(c, service, "leaf from the new root", func(x *cache.Snapshot) bool {
			b := x.Bundle.Bundle
			return b.ActiveRootID != old && x.Leaf.Leaf.SignedBy(b.Active())
		})
	}
}

func cacheWatchesLocalServices(s *stage) {
	web := s.service("web")
	c, _ := s.cache(nil)
	s.register(web)
	s.await(c, web, "ready snapshot", (*cache.Snapshot).Ready)
	s.deregister(web)
	late := time.NewTimer(s.h.Patience)
	defer late.Stop()
	for {
		_, setChanged := c.Wanted()
		if x, _ := c.Snapshot(web); x == nil {
			return
		}
		select {
		case <-setChanged:
		case <-late.C:
			s.t.Fatalf("%s is still watched %s after its end", web, s.h.Patience)
		}
	}
}

// cacheRestartKeepsLeaves restarts cache and source over one store: nothing is
// signed again, and what changed meanwhile is noticed.
func cacheRestartKeepsLeaves(s *stage) {
	web, db, more := s.service("web"), s.service("db"), s.service("more")
	s.intend(db.Name, map[string]string{web.Name: "allow"})
	store := &memory{}
	c, stop := s.cache(store, web, db)
	first := s.await(c, db, "ready snapshot", (*cache.Snapshot).Ready)
	stop()
	s.f.SetIntentions(s.t, db.Name, map[string]string{web.Name: "deny"})
	c, _ = s.cache(store, web, db, more)
	restored, _ := c.Snapshot(db)
	if restored == nil || !restored.Ready() || restored.Index < first.Index {
		s.t.Fatal("the restored snapshot is not ready")
	}
	s.await(c, more, "ready snapshot", (*cache.Snapshot).Ready)
	x := s.await(c, db, "change made while nobody watched", func(x *cache.Snapshot) bool { return !allows(x, web) })
	if got, want := x.Leaf.Leaf.SerialNumber, first.Leaf.Leaf.SerialNumber; got != want {
		s.t.Errorf("the restart cost a signature: got serial number %s, want %s", got, want)
	}
}

// memory is a cache.Store without a disk.
type memory struct {
	mu      sync.Mutex // guards records
	records map[string]map[string][]byte
}

// Load implements cache.Store.
func (m *memory) Load() (map[string]map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]map[string][]byte{}
	for bucket, records := range m.records {
		out[bucket] = maps.Clone(records)
	}
	return out, nil
}

// Settle implements cache.Store.
func (m *memory) Settle() error { return nil }

// Commit implements cache.Store.
func (m *memory) Commit(batch map[string]map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = map[string]map[string][]byte{}
	}
	for bucket, records := range batch {
		if m.records[bucket] == nil {
			m.records[bucket] = map[string][]byte{}
		}
		for key, value := range records {
			if value == nil {
				delete(m.records[bucket], key)
			} else {
				m.records[bucket][key] = value
			}
		}
	}
	return nil
}
