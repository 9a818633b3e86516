package cache

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/connectd/connectd/intentions"
)

// askedFor is how long a service stays watched after a caller last asked.
const askedFor = 72 * time.Hour

// askedStep is how precisely the last asking is remembered, so that a busy
// caller costs no messages and no writes.
const askedStep = time.Hour

// ask is a caller's wish to have a service watched.
type ask struct {
	uid     uint32
	service intentions.Service
	leaf    bool
	taken   chan error
}

// Ask makes sure that a service is watched, because the local user uid, who
// was admitted, asked for it. With leaf false only its policy is watched,
// which costs no signature. It returns ErrTooManyNewNames or
// ErrTooManyServices when the service cannot be added.
func (c *Cache) Ask(ctx context.Context, uid uint32, s intentions.Service, leaf bool) error {
	if e := (*c.services.Load())[s]; e != nil && e.askedLately(leaf, time.Now()) {
		return nil
	}
	a := &ask{uid: uid, service: s, leaf: leaf, taken: make(chan error, 1)}
	if err := c.tell(ctx, message{ask: a}); err != nil {
		return err
	}
	select {
	case err := <-a.taken:
		return err
	case <-c.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// askedLately reports whether the keeper knows well enough that the service is
// in use. Leaf and policy count apart, or those who ask for the policy alone
// would let the leaf of the others lapse.
func (e *entry) askedLately(leaf bool, now time.Time) bool {
	if leaf && !e.view.Load().snapshot.WantsLeaf {
		return false
	}
	return now.Unix()-e.asked(leaf).Load() < int64(askedStep/time.Second)
}

func (e *entry) asked(leaf bool) *atomic.Int64 {
	if leaf {
		return &e.askedLeaf
	}
	return &e.askedPolicy
}

// newcomers limits how many new services one local user can bring in: with a
// leaf 10 a minute, because each costs a signature, else 100 a minute. It
// counts names, so that callers who start together do not use it up.
type newcomers struct{ user map[uint32]*allowance }

type allowance struct{ leaves, policies *rate.Limiter }

// maxNewcomerUsers bounds the memory spent on limits; past it all start anew.
const maxNewcomerUsers = 4096

func (n *newcomers) allow(uid uint32, leaf bool) bool {
	a := n.user[uid]
	if a == nil {
		if n.user == nil || len(n.user) >= maxNewcomerUsers {
			n.user = map[uint32]*allowance{}
		}
		a = &allowance{
			leaves:   rate.NewLimiter(rate.Every(6*time.Second), 10),
			policies: rate.NewLimiter(rate.Every(600*time.Millisecond), 100),
		}
		n.user[uid] = a
	}
	if leaf {
		return a.leaves.Allow()
	}
	return a.policies.Allow()
}

// membership is why a service is watched.
type membership struct {
	configured bool
	local      bool
	// askedLeaf and askedPolicy are when a caller last asked; zero is never.
	askedLeaf, askedPolicy time.Time
}

func (m *membership) wantsLeaf() bool {
	return m.configured || m.local || !m.askedLeaf.IsZero()
}

// age forgets requests that are too old and reports whether a reason to watch
// is left.
func (m *membership) age(now time.Time) bool {
	if now.Sub(m.askedLeaf) > askedFor {
		m.askedLeaf = time.Time{}
	}
	if now.Sub(m.askedPolicy) > askedFor {
		m.askedPolicy = time.Time{}
	}
	return m.wantsLeaf() || !m.askedPolicy.IsZero()
}

func sortWants(wants []Want) {
	slices.SortFunc(wants, func(a, b Want) int { return compareServices(a.Service, b.Service) })
}

func compareServices(a, b intentions.Service) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
