package cache

import (
	"time"

	"github.com/connectd/connectd/intentions"
)

// member returns why a service is watched, adding it if there is room.
func (k *keeper) member(s intentions.Service) *membership {
	m := k.members[s]
	if m == nil && len(k.members) < k.c.cfg.MaxServices {
		m = &membership{}
		k.members[s] = m
		k.round.set, k.round.dirty[s] = true, true
	}
	return m
}

func (k *keeper) takeAsk(a *ask) error {
	m := k.members[a.service]
	if m == nil && len(k.members) >= k.c.cfg.MaxServices {
		return ErrTooManyServices
	}
	if (m == nil || a.leaf && !m.wantsLeaf()) && !k.newcomers.allow(a.uid, a.leaf) {
		return ErrTooManyNewNames
	}
	m = k.member(a.service)
	now := time.Now()
	hadLeaf := m.wantsLeaf()
	if a.leaf {
		m.askedLeaf = now
	} else {
		m.askedPolicy = now
	}
	if !hadLeaf && m.wantsLeaf() {
		k.round.set, k.round.dirty[a.service] = true, true
	}
	if e := (*k.c.services.Load())[a.service]; e != nil {
		e.asked(a.leaf).Store(now.Unix())
	}
	k.put(bucketAsked, serviceKey(a.service), encode(askedRecord{Leaf: m.askedLeaf, Policy: m.askedPolicy}))
	return nil
}

func (k *keeper) takeLocal(list []LocalService) {
	if sameLocal(k.overview.local, list) && k.overview.local != nil {
		return
	}
	k.overview.local = list
	k.put(bucketMeta, keyLocal, encode(list))
	now := map[intentions.Service]bool{}
	for _, l := range list {
		now[l.Service] = true
		m := k.member(l.Service)
		if m == nil {
			k.c.logger.Error("service is not watched: too many services", "service", l.Service.String())
			continue
		}
		if !m.wantsLeaf() {
			k.round.dirty[l.Service] = true
		}
		if !m.local {
			m.local, k.round.set = true, true
		}
	}
	for s, m := range k.members {
		if m.local && !now[s] {
			m.local, k.round.set, k.round.dirty[s] = false, true, true
		}
	}
	k.dropUnwanted(time.Now())
}

func sameLocal(a, b []LocalService) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// dropUnwanted forgets services that nothing asks for any more, and the keys
// of those whose policy alone is still wanted.
func (k *keeper) dropUnwanted(now time.Time) {
	for s, m := range k.members {
		hadLeaf := m.wantsLeaf()
		keep := m.age(now)
		if keep && m.wantsLeaf() {
			continue
		}
		if hadLeaf {
			k.round.dirty[s], k.round.set = true, true
		}
		if k.leaves[s] != nil || k.held[s] != nil {
			delete(k.leaves, s)
			delete(k.held, s)
			k.put(bucketLeaf, serviceKey(s), nil)
			k.round.dirty[s] = true
		}
		if keep {
			continue
		}
		delete(k.members, s)
		delete(k.rows, s)
		delete(k.policies, s)
		k.put(bucketPolicy, serviceKey(s), nil)
		k.put(bucketAsked, serviceKey(s), nil)
		k.c.conditions.forget(s)
		k.round.set = true
	}
}

func (k *keeper) housekeep(now time.Time) {
	k.dropUnwanted(now)
	k.expireLeaves(now)
	k.writeConfirmations()
}
