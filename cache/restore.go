package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/connectd/connectd/intentions"
)

// restore reads the store and shows what it held, marked with its age. It runs
// before anything else, so readers are served at once after a cold start.
func (k *keeper) restore() error {
	now := time.Now()
	k.index = uint64(max(now.UnixMilli(), 1))
	records := map[string]map[string][]byte{}
	if k.c.cfg.Store != nil {
		var err error
		if records, err = k.c.cfg.Store.Load(); err != nil {
			return fmt.Errorf("restore snapshots: %w", err)
		}
	}
	k.restoreMeta(records[bucketMeta], now)
	if k.c.cfg.Default != nil {
		k.overview.fallback = *k.c.cfg.Default
	}
	k.restoreMembers(records, now)
	k.restorePolicies(records[bucketPolicy], now)
	k.restoreLeaves(records[bucketLeaf], now)
	k.restoreConfirmations(records[bucketMeta][keyConfirmed], now)
	k.overview.index = k.index
	current := k.overview
	k.c.overall.Store(&current)
	k.c.bundle.Store(&bundleView{part: k.bundle, changed: make(chan struct{})})
	k.publishSet()
	k.publishWanted(true)
	k.c.discovery.restore(records[bucketDiscovery], now)
	if n := len(k.leaves); n > 0 {
		k.c.logger.Info("restored snapshots", "services", len(k.members), "leaves", n)
	}
	return nil
}

func (k *keeper) restoreMeta(meta map[string][]byte, now time.Time) {
	var stored uint64
	if k.decode(keyIndex, meta[keyIndex], &stored) {
		k.index = max(k.index, stored+1)
	}
	var b bundleRecord
	if k.decode(keyBundle, meta[keyBundle], &b) {
		bundle, err := NewBundle(b.TrustDomain, b.ActiveRootID, b.Roots)
		if err != nil {
			k.c.logger.Error("stored trust bundle is not usable", "error", err)
		} else if k.acceptTrustDomain(bundle.TrustDomain) {
			k.bundle = &BundlePart{Index: b.Index, Bundle: bundle}
			k.bundle.confirmed.set(restored(b.Confirmed, now))
		}
	}
	var d defaultRecord
	if k.decode(keyDefault, meta[keyDefault], &d) {
		k.overview.fallback, k.overview.fallbackKnown = intentions.DefaultAction(d), true
	}
	k.decode(keyNormalization, meta[keyNormalization], &k.overview.normalization)
	k.decode(keyLocal, meta[keyLocal], &k.overview.local)
}

// restoreMembers decides which services are watched before upstream answers.
func (k *keeper) restoreMembers(records map[string]map[string][]byte, now time.Time) {
	for _, s := range k.c.cfg.Services {
		if m := k.member(s); m != nil {
			m.configured = true
		} else {
			k.c.logger.Error("service is not watched: too many services", "service", s.String())
		}
	}
	for _, l := range k.overview.local {
		if m := k.member(l.Service); m != nil {
			m.local = true
		}
	}
	var lapsed []string
	for key, raw := range records[bucketAsked] {
		if !k.restoreAsked(key, raw, now) {
			lapsed = append(lapsed, key)
		}
	}
	k.round = newRound()
	for _, key := range lapsed {
		k.put(bucketAsked, key, nil)
	}
}

// restoreAsked reports whether the record of a caller's request still counts.
func (k *keeper) restoreAsked(key string, raw []byte, now time.Time) bool {
	var a askedRecord
	s, ok := parseServiceKey(key)
	if !ok || !k.decode("asked/"+key, raw, &a) {
		return false
	}
	m := membership{askedLeaf: a.Leaf, askedPolicy: a.Policy}
	if !m.age(now) {
		return false
	}
	known := k.member(s)
	if known != nil {
		known.askedLeaf, known.askedPolicy = m.askedLeaf, m.askedPolicy
	}
	return known != nil
}

// restorePolicies deletes the records that it cannot use: later on one could
// be taken for something that upstream confirmed in the meantime.
func (k *keeper) restorePolicies(records map[string][]byte, now time.Time) {
	for key, raw := range records {
		if !k.restorePolicy(key, raw, now) {
			k.put(bucketPolicy, key, nil)
		}
	}
}

func (k *keeper) restorePolicy(key string, raw []byte, now time.Time) bool {
	var r policyRecord
	s, ok := parseServiceKey(key)
	if !ok || k.members[s] == nil || k.bundle == nil || !k.decode("policy/"+key, raw, &r) {
		return false
	}
	list, err := intentions.ParseIntentions(r.Rows)
	if err == nil && (r.Service != s || len(r.Rows) == 0) {
		err = errors.New("the record is not one of this service")
	}
	if err != nil {
		k.c.logger.Error("stored intentions are not usable", "service", s.String(), "error", err)
		return false
	}
	k.rows[s] = rows{r.Rows, list, restored(r.Confirmed, now)}
	if !k.overview.fallbackKnown {
		return true
	}
	part := newPolicyPart(s, k.bundle.Bundle.TrustDomain, &k.overview, k.rows[s])
	part.Index = r.Index
	if r.Default != k.overview.fallback || r.Normalization != k.overview.normalization {
		// Callers may hold the policy as it was under the old index, and must
		// not wait on it.
		part.Index = k.anew()
	}
	k.policies[s] = part
	return true
}

// anew returns the index of what is shown in another form than before the
// restart. It becomes durable, so that no later start uses it again.
func (k *keeper) anew() uint64 {
	k.put(bucketMeta, keyIndex, encode(k.index))
	return k.index
}

// restoreLeaves deletes the keys of services that are not watched any more.
func (k *keeper) restoreLeaves(records map[string][]byte, now time.Time) {
	for key, raw := range records {
		s, ok := parseServiceKey(key)
		if m := k.members[s]; !ok || m == nil || !m.wantsLeaf() {
			k.put(bucketLeaf, key, nil)
			continue
		}
		var r leafRecord
		if k.bundle == nil || !k.decode("leaf/"+key, raw, &r) {
			continue
		}
		leaf, err := ParseLeaf(s, r.CertPEM, NewSecret(r.KeyPEM))
		if err == nil {
			err = leaf.Verify(k.bundle.Bundle, leaf.clamp(now))
		}
		if err != nil {
			k.c.logger.Error("stored leaf is not usable", "service", s.String(), "error", err)
			continue
		}
		leaf.CreateIndex, leaf.ModifyIndex = r.CreateIndex, r.ModifyIndex
		part := &LeafPart{Index: r.Index, Leaf: leaf}
		if leaf.Expired(now) {
			// Whoever knows the leaf under its old index learns of its end.
			part.Index, part.Error = k.anew(), LeafErrorExpired
		}
		k.leaves[s] = part
	}
}

// restoreConfirmations sets the age of everything restored: from the record of
// confirmation times, or from the moment of writing where that is later,
// because the record is written once a minute only.
func (k *keeper) restoreConfirmations(raw []byte, now time.Time) {
	var r confirmedRecord
	k.decode(keyConfirmed, raw, &r)
	if k.bundle != nil {
		k.bundle.confirmed.advance(restored(r.Bundle, now))
	}
	for s, known := range k.rows {
		at, other := r.Others[serviceKey(s)]
		if !other {
			at = r.Policies
		}
		if at = restored(at, now); at.After(known.confirmed) {
			known.confirmed = at
			k.rows[s] = known
		}
		if part := k.policies[s]; part != nil {
			part.confirmed.set(known.confirmed)
		}
	}
}

// writeConfirmations remembers how old everything is, so that a restart makes
// nothing younger.
func (k *keeper) writeConfirmations() {
	var r confirmedRecord
	if k.bundle != nil {
		r.Bundle = k.bundle.confirmed.at.Load().Round(0).UTC()
	}
	times := map[intentions.Service]time.Time{}
	count := map[time.Time]int{}
	for s, known := range k.rows {
		// Rounding down to a second lets policies that were confirmed together
		// share one time, and makes nothing younger.
		t := known.confirmed.Round(0).UTC().Truncate(time.Second)
		times[s] = t
		count[t]++
	}
	for t, n := range count {
		if n > count[r.Policies] || (n == count[r.Policies] && t.Before(r.Policies)) {
			r.Policies = t
		}
	}
	for s, t := range times {
		if !t.Equal(r.Policies) {
			if r.Others == nil {
				r.Others = map[string]time.Time{}
			}
			r.Others[serviceKey(s)] = t
		}
	}
	next := encode(r)
	if !slices.Equal(next, k.lastConfirmed) {
		k.lastConfirmed = next
		k.put(bucketMeta, keyConfirmed, next)
	}
}

// decode reads a record. One that is missing is not an error; one that is not
// valid is logged and treated as missing.
func (k *keeper) decode(name string, raw []byte, into any) bool {
	if raw == nil {
		return false
	}
	if err := json.Unmarshal(raw, into); err != nil {
		k.c.logger.Error("stored record is not usable", "record", name, "error", err)
		return false
	}
	return true
}
