package cache

import (
	"encoding/json"
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
	k.restoreMeta(records[bucketMeta])
	if k.c.cfg.Default != nil {
		k.overview.fallback, k.overview.fallbackKnown = *k.c.cfg.Default, true
	}
	k.restoreMembers(records, now)
	k.restorePolicies(records[bucketPolicy])
	k.restoreLeaves(records[bucketLeaf], now)
	k.restoreConfirmations(records[bucketMeta][keyConfirmed])
	k.overview.index = k.index
	current := k.overview
	k.c.overall.Store(&current)
	k.c.bundle.Store(&bundleView{part: k.bundle, changed: make(chan struct{})})
	k.publishSet()
	k.publishWanted(true)
	k.c.discovery.restore(records[bucketDiscovery])
	if n := len(k.leaves); n > 0 {
		k.c.logger.Info("restored snapshots", "services", len(k.members), "leaves", n)
	}
	return nil
}

func (k *keeper) restoreMeta(meta map[string][]byte) {
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
			k.bundle.confirmed.set(b.Confirmed)
		}
	}
	var d defaultRecord
	if k.decode(keyDefault, meta[keyDefault], &d) {
		k.overview.fallback, k.overview.fallbackKnown = intentions.DefaultAction(d), true
	}
	k.decode(keyLocal, meta[keyLocal], &k.overview.local)
}

// restoreMembers decides which services are watched before upstream answers.
func (k *keeper) restoreMembers(records map[string]map[string][]byte, now time.Time) {
	for _, s := range k.c.cfg.Services {
		if m := k.member(s); m != nil {
			m.configured = true
		}
	}
	for _, l := range k.overview.local {
		if m := k.member(l.Service); m != nil {
			m.local = true
		}
	}
	for key, raw := range records[bucketAsked] {
		var a askedRecord
		s, ok := parseServiceKey(key)
		if !ok || !k.decode("asked/"+key, raw, &a) {
			continue
		}
		m := membership{askedLeaf: a.Leaf, askedPolicy: a.Policy}
		if !m.age(now) {
			continue
		}
		if known := k.member(s); known != nil {
			known.askedLeaf, known.askedPolicy = m.askedLeaf, m.askedPolicy
		}
	}
	k.round = newRound()
}

func (k *keeper) restorePolicies(records map[string][]byte) {
	if k.bundle == nil || !k.overview.fallbackKnown {
		return
	}
	for key, raw := range records {
		var r policyRecord
		if !k.decode("policy/"+key, raw, &r) || k.members[r.Service] == nil {
			continue
		}
		part, err := newPolicyPart(r.Service, k.bundle.Bundle.TrustDomain, k.overview.fallback, r.Rows)
		if err != nil {
			k.c.logger.Error("stored intentions are not usable", "service", r.Service.String(), "error", err)
			continue
		}
		part.Index = r.Index
		part.confirmed.set(r.Confirmed)
		k.rows[r.Service], k.policies[r.Service] = rows{r.Rows, r.Confirmed}, part
	}
}

func (k *keeper) restoreLeaves(records map[string][]byte, now time.Time) {
	if k.bundle == nil {
		return
	}
	for key, raw := range records {
		var r leafRecord
		if !k.decode("leaf/"+key, raw, &r) {
			continue
		}
		if m := k.members[r.Service]; m == nil || !m.wantsLeaf() {
			continue
		}
		leaf, err := ParseLeaf(r.Service, r.CertPEM, NewSecret(r.KeyPEM))
		if err == nil {
			err = leaf.Verify(k.bundle.Bundle, leaf.clamp(now))
		}
		if err != nil {
			k.c.logger.Error("stored leaf is not usable", "service", r.Service.String(), "error", err)
			continue
		}
		leaf.CreateIndex, leaf.ModifyIndex = r.CreateIndex, r.ModifyIndex
		part := &LeafPart{Index: r.Index, Leaf: leaf}
		if leaf.Expired(now) {
			part.Error = LeafErrorExpired
		}
		k.leaves[r.Service] = part
	}
}

// restoreConfirmations sets the age of everything restored: from the record of
// confirmation times, or from the moment of writing where that is later,
// because the record is written once a minute only.
func (k *keeper) restoreConfirmations(raw []byte) {
	var r confirmedRecord
	k.decode(keyConfirmed, raw, &r)
	if k.bundle != nil {
		k.bundle.confirmed.advance(r.Bundle)
	}
	for s, part := range k.policies {
		at, other := r.Others[serviceKey(s)]
		if !other {
			at = r.Policies
		}
		part.confirmed.advance(at)
		k.rows[s] = rows{k.rows[s].raw, *part.confirmed.at.Load()}
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
	for s, part := range k.policies {
		// Rounding down to a second lets policies that were confirmed together
		// share one time, and makes nothing younger.
		t := part.confirmed.at.Load().Round(0).UTC().Truncate(time.Second)
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
