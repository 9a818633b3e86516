package cache

import (
	"time"

	"github.com/connectd/connectd/intentions"
)

func (k *keeper) takeLeaf(l *Leaf) {
	if m := k.members[l.Service]; m == nil || !m.wantsLeaf() {
		return
	}
	if part := k.leaves[l.Service]; part != nil && part.Leaf.CertPEM == l.CertPEM {
		return
	}
	k.adoptLeaf(l.Service, l, time.Now())
}

// adoptLeaf makes a leaf current if the bundle verifies it, and holds it back
// otherwise: no reader ever sees a leaf that its bundle does not verify.
func (k *keeper) adoptLeaf(s intentions.Service, l *Leaf, now time.Time) {
	if k.bundle == nil || l.Verify(k.bundle.Bundle, l.clamp(now)) != nil {
		k.held[s] = l
		return
	}
	delete(k.held, s)
	k.leaves[s] = &LeafPart{Index: k.stamp(), Leaf: l}
	k.round.dirty[s], k.round.leaves = true, true
	k.put(bucketLeaf, serviceKey(s), encodeLeaf(k.leaves[s]))
	k.c.logger.Info("leaf taken", "service", s.String(), "serial_number", l.SerialNumber,
		"not_after", l.NotAfter.UTC(), "index", k.leaves[s].Index)
	if l.Expired(now) {
		k.judgeLeaf(s, now)
	}
}

// clamp moves now into the leaf's own dates, so that only the chain is judged.
func (l *Leaf) clamp(now time.Time) time.Time {
	if now.Before(l.NotBefore) {
		return l.NotBefore
	}
	if now.After(l.NotAfter) {
		return l.NotAfter
	}
	return now
}

// judgeLeaf marks a leaf that must not be presented any more, or clears it.
func (k *keeper) judgeLeaf(s intentions.Service, now time.Time) {
	part := k.leaves[s]
	verdict := ""
	switch {
	case part.Leaf.Expired(now):
		verdict = LeafErrorExpired
	case part.Leaf.Verify(k.bundle.Bundle, part.Leaf.clamp(now)) != nil:
		verdict = LeafErrorUntrusted
	}
	if verdict == part.Error {
		return
	}
	k.leaves[s] = &LeafPart{Index: k.stamp(), Leaf: part.Leaf, Error: verdict}
	k.round.dirty[s], k.round.leaves = true, true
	k.put(bucketLeaf, serviceKey(s), encodeLeaf(k.leaves[s]))
	if verdict != "" {
		k.c.logger.Error("leaf cannot be used any more", "service", s.String(), "error", verdict)
	}
}

// expireLeaves marks leaves that reached their end, and takes the mark back
// where a clock ran ahead for a while.
func (k *keeper) expireLeaves(now time.Time) {
	for s, part := range k.leaves {
		if part.Leaf.Expired(now) != (part.Error == LeafErrorExpired) && k.bundle != nil {
			k.judgeLeaf(s, now)
		}
	}
}

// untilExpiry is the time until the next leaf passes its end.
func (k *keeper) untilExpiry(now time.Time) time.Duration {
	next := time.Hour
	for _, part := range k.leaves {
		if part.Error == "" {
			// A leaf is expired only after its last instant.
			next = min(next, part.Leaf.NotAfter.Sub(now)+time.Millisecond)
		}
	}
	return max(next, 0)
}
