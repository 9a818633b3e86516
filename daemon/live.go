package daemon

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// admission holds the rules that are in force.
type admission struct {
	logger  hclog.Logger
	current atomic.Pointer[inForce]
	// doors are complaints about services' own sockets.
	doors atomic.Pointer[[]socketapi.Complaint]

	mu sync.Mutex // serializes replacements
}

// inForce is one set of rules, with the blocks that it was made of.
type inForce struct {
	*rules
	services []ServiceConfig
	// replaced is closed when these rules are no longer in force.
	replaced chan struct{}
}

func newAdmission(r *rules, services []ServiceConfig, logger hclog.Logger) *admission {
	a := &admission{logger: logger}
	a.current.Store(&inForce{r, services, make(chan struct{})})
	return a
}

// Admit implements socketapi.Admission.
func (a *admission) Admit(p socketapi.Peer, g socketapi.Grant, s intentions.Service) bool {
	return a.current.Load().Admit(p, g, s)
}

// Changed implements socketapi.Changing.
func (a *admission) Changed() <-chan struct{} { return a.current.Load().replaced }

// Complaints implements socketapi.Complaining.
func (a *admission) Complaints() []socketapi.Complaint {
	out := slices.Clone(a.current.Load().complaints)
	if of := a.doors.Load(); of != nil {
		out = append(out, *of...)
	}
	return out
}

func (a *admission) complainOfDoors(list []socketapi.Complaint) { a.doors.Store(&list) }

// replace puts other rules into force, for open connections too.
func (a *admission) replace(r *rules, services []ServiceConfig) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.swap(r, services)
}

func (a *admission) swap(r *rules, services []ServiceConfig) {
	old := a.current.Load()
	keepSince(old.complaints, r.complaints)
	a.current.Store(&inForce{r, services, make(chan struct{})})
	close(old.replaced)
	a.report(old.complaints, r.complaints)
}

// keepSince gives complaints that are still true the time of their beginning.
func keepSince(old, now []socketapi.Complaint) {
	for i := range now {
		for _, before := range old {
			if before.Message == now[i].Message {
				now[i].Since = before.Since
			}
		}
	}
}

// report logs what began and what ended.
func (a *admission) report(old, now []socketapi.Complaint) {
	has := func(list []socketapi.Complaint, message string) bool {
		return slices.ContainsFunc(list, func(c socketapi.Complaint) bool { return c.Message == message })
	}
	for _, c := range now {
		if !has(old, c.Message) {
			a.logger.Warn("a rule matches nobody", "service", c.Service.Name, "error", c.Message)
		}
	}
	for _, c := range old {
		if !has(now, c.Message) {
			a.logger.Info("a rule matches nobody no longer for this reason", "service", c.Service.Name, "error", c.Message)
		}
	}
}

// lookUpEvery is how often names are looked up again: users come and go while
// the daemon runs.
const lookUpEvery = time.Minute

// Run looks names up again until ctx ends.
func (a *admission) Run(ctx context.Context, m ruleMaker) error {
	a.report(nil, a.current.Load().complaints)
	tick := time.NewTicker(lookUpEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.lookUp(m)
		}
	}
}

// lookUp puts the same blocks into force with the ids that their names have
// now. Rules that were not made of blocks stay.
func (a *admission) lookUp(m ruleMaker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	services := a.current.Load().services
	if len(services) == 0 {
		return
	}
	m.now = time.Now()
	r, err := m.rules(services)
	if err != nil {
		// A name has come to mean an id that may never be admitted.
		a.logger.Error("the rules cannot be looked up again; they stay as they are", "error", err)
		return
	}
	if !sameRules(a.current.Load().rules, r) {
		a.swap(r, services)
	}
}

// sameRules compares what two sets of rules say; complaints follow from them.
func sameRules(a, b *rules) bool { return slices.Equal(a.rights(), b.rights()) }
