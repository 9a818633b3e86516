package cache

import (
	"slices"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Status describes the cache for people and programs.
type Status struct {
	Index            uint64
	Datacenter, Node string
	// Bundle is nil before the first.
	Bundle    *BundlePart
	BundleAge time.Duration
	Default   intentions.DefaultAction
	// DefaultKnown is false before anyone said what applies.
	DefaultKnown bool
	Store        string
	Local        []LocalService
	Conditions   []Condition
	Services     []ServiceStatus
}

// ServiceStatus describes one watched service.
type ServiceStatus struct {
	Snapshot *Snapshot
	Age      time.Duration
	Fresh    bool
	Ready    bool
	// Cause says why the service is not ready, where that is known.
	Cause *Failure
}

// Status returns the state of everything.
func (c *Cache) Status() Status {
	now := time.Now()
	o := c.overall.Load()
	bundle, _ := c.Bundle()
	s := Status{
		Index: o.index, Datacenter: o.datacenter, Node: o.node,
		Bundle: bundle, BundleAge: c.BundleAge(now),
		Default: o.fallback, DefaultKnown: o.fallbackKnown,
		Store: c.StoreState(), Local: o.local, Conditions: c.conditions.all(),
	}
	for service := range *c.services.Load() {
		s.Services = append(s.Services, c.ServiceStatus(service))
	}
	slices.SortFunc(s.Services, func(a, b ServiceStatus) int {
		return compareServices(a.Snapshot.Service, b.Snapshot.Service)
	})
	return s
}

// ServiceStatus describes one service; its snapshot is nil if the service is
// not watched.
func (c *Cache) ServiceStatus(s intentions.Service) ServiceStatus {
	snapshot, _ := c.Snapshot(s)
	if snapshot == nil {
		return ServiceStatus{}
	}
	now := time.Now()
	out := ServiceStatus{
		Snapshot: snapshot, Age: snapshot.Age(now), Fresh: snapshot.Fresh(now), Ready: snapshot.Ready(),
	}
	if !out.Ready {
		out.Cause = c.Cause(s)
	}
	return out
}

// StoreState is ok, behind or degraded.
func (c *Cache) StoreState() string { return c.persister.state() }
