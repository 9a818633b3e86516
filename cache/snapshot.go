package cache

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Words for a leaf that a snapshot holds back.
const (
	LeafErrorExpired   = "expired"
	LeafErrorUntrusted = "untrusted"
)

// Snapshot is the immutable state of one watched service at one index: one
// consistent set, in which the bundle verifies the leaf. Parts that are not
// known yet are nil.
type Snapshot struct {
	// Index is the largest index of the parts.
	Index   uint64
	Service intentions.Service
	Leaf    *LeafPart
	Bundle  *BundlePart
	Policy  *PolicyPart
	// WantsLeaf is false for a service of which only the policy is watched.
	WantsLeaf bool

	// Bodies remembers what was encoded from this snapshot, so that all its
	// readers share one copy.
	Bodies Bodies

	cache *Cache
}

// LeafPart is a leaf with the index of its last change.
type LeafPart struct {
	Index uint64
	Leaf  *Leaf
	// Error is set where the leaf must not be presented any more.
	Error string
}

// BundlePart is the trust bundle with the index of its last change.
type BundlePart struct {
	Index  uint64
	Bundle *Bundle
	Bodies Bodies

	confirmed confirmation
}

// PolicyPart is the policy of one destination with the index of its last
// change.
type PolicyPart struct {
	Index uint64
	Table *intentions.Table
	// Intentions are in deciding order and include those of peers, which the
	// policy leaves out.
	Intentions []intentions.Intention
	// Raw is the array of rows as upstream wrote it, or null.
	Raw json.RawMessage

	rowOfRule []int
	confirmed confirmation
}

// Intention returns the intention behind rule number n of the policy, counted
// from 1.
func (p *PolicyPart) Intention(n int32) *intentions.Intention {
	return &p.Intentions[p.rowOfRule[n-1]]
}

// Ready reports whether everything that the service needs has arrived.
func (s *Snapshot) Ready() bool {
	return s.Bundle != nil && s.Policy != nil && (s.Leaf != nil || !s.WantsLeaf)
}

// Age is the time since upstream confirmed the bundle and the policy, the
// worse of the two.
func (s *Snapshot) Age(now time.Time) time.Duration {
	if s.Bundle == nil || s.Policy == nil {
		return never
	}
	return max(s.Bundle.confirmed.age(now), s.Policy.confirmed.age(now))
}

// Fresh reports whether upstream confirmed the snapshot lately.
func (s *Snapshot) Fresh(now time.Time) bool { return s.Age(now) <= FreshFor }

// Decide says whether the source with this SPIFFE ID may connect to the
// snapshot's service, or, given a request, whether that may pass. Policy older
// than the configured bound denies.
func (s *Snapshot) Decide(source string, r *intentions.Request) intentions.Decision {
	if s == nil || s.Policy == nil || s.Bundle == nil {
		return intentions.Decision{}
	}
	if s.Age(time.Now()) > s.cache.cfg.MaxStale {
		return intentions.Decision{Reason: intentions.ReasonPolicyStale}
	}
	return s.Policy.Table.DecideURI(source, r)
}

// FreshFor is the age up to which a snapshot counts as fresh: two waits of
// 60 s and a margin.
const FreshFor = 150 * time.Second

// confirmation is the moment of the last complete valid answer. It belongs to
// the part that was confirmed, so that a reader never sees a part with the age
// of another.
type confirmation struct{ at atomic.Pointer[time.Time] }

func (c *confirmation) set(at time.Time) { c.at.Store(&at) }

// advance sets the moment unless a later one is known.
func (c *confirmation) advance(at time.Time) {
	if old := c.at.Load(); old == nil || old.Before(at) {
		c.set(at)
	}
}

// restored gives a moment that was read from disk the monotonic clock of this
// process, so that setting the clock back afterwards makes nothing younger. A
// moment that lies ahead of now shows that the clock went back before: the true
// age is not known, and the distance stands for it. So a small correction
// costs little, and a large one does not turn what is old into something fresh.
func restored(at, now time.Time) time.Time {
	return now.Add(-now.Sub(at).Abs())
}

// never stands for the age of something that was never confirmed.
const never = time.Duration(1<<63 - 1)

// age is the larger of what the monotonic and the wall clock say, so that
// setting the clock back does not make anything younger.
func (c *confirmation) age(now time.Time) time.Duration {
	at := c.at.Load()
	if at == nil {
		return never
	}
	return max(0, now.Sub(*at), now.Round(0).Sub(at.Round(0)))
}

// Bodies remembers a few encodings of one immutable value.
type Bodies struct {
	slots [3]struct {
		once sync.Once
		body []byte
	}
}

// Get returns the body of a slot (0 to 2), encoding it the first time.
func (b *Bodies) Get(slot int, encode func() []byte) []byte {
	s := &b.slots[slot]
	s.once.Do(func() { s.body = encode() })
	return s.body
}
