package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/connectd/connectd/intentions"
)

// keeper owns everything that changes. It runs in one goroutine: it takes all
// messages that wait, persists what changed and publishes it under one index.
type keeper struct {
	c *Cache

	index    uint64
	overview overview
	bundle   *BundlePart
	members  map[intentions.Service]*membership
	rows     map[intentions.Service]rows
	policies map[intentions.Service]*PolicyPart
	leaves   map[intentions.Service]*LeafPart
	// held are leaves that no known bundle verifies yet.
	held      map[intentions.Service]*Leaf
	newcomers newcomers
	// foreign is true while upstream speaks for another trust domain.
	foreign bool
	// lastConfirmed is the record of confirmation times last written.
	lastConfirmed []byte

	round round
}

// rows are a destination's intentions as upstream wrote them, the same parsed,
// and when upstream last confirmed them.
type rows struct {
	raw       json.RawMessage
	list      []intentions.Intention
	confirmed time.Time
}

// round is what one turn of the keeper changed and has not published.
type round struct {
	stamped bool
	dirty   map[intentions.Service]bool
	bundle  bool
	set     bool
	leaves  bool
	answers []answer
	found   []*found
	batch   map[string]map[string][]byte
}

type answer struct {
	to  chan error
	err error
}

const (
	// gatherAtMost bounds the messages taken in one round.
	gatherAtMost = 256
	// publishAfter is how long a slow disk may hold a publication back.
	publishAfter = 25 * time.Millisecond
	// housekeepingEvery is how often old requests are forgotten and
	// confirmation times written.
	housekeepingEvery = time.Minute
	// housekeepingFirst comes sooner, so that a daemon that never lives for a
	// minute does not forget that upstream confirmed what it restored.
	housekeepingFirst = 10 * time.Second
)

func newKeeper(c *Cache) *keeper {
	return &keeper{
		c:        c,
		members:  map[intentions.Service]*membership{},
		rows:     map[intentions.Service]rows{},
		policies: map[intentions.Service]*PolicyPart{},
		leaves:   map[intentions.Service]*LeafPart{},
		held:     map[intentions.Service]*Leaf{},
		round:    newRound(),
		overview: overview{normalization: intentions.DefaultNormalization()},
	}
}

func newRound() round {
	return round{dirty: map[intentions.Service]bool{}, batch: map[string]map[string][]byte{}}
}

func (k *keeper) run(ctx context.Context) error {
	defer close(k.c.ended)
	tick := time.NewTicker(housekeepingFirst)
	defer tick.Stop()
	expiry := time.NewTimer(0)
	defer expiry.Stop()
	for {
		select {
		case m := <-k.c.mail:
			k.take(m)
			k.takeWaiting()
		case <-expiry.C:
			k.expireLeaves(time.Now())
		case now := <-tick.C:
			tick.Reset(housekeepingEvery)
			k.housekeep(now)
		case <-ctx.Done():
			k.writeConfirmations()
			k.publish(ctx)
			return nil
		}
		k.publish(ctx)
		expiry.Reset(k.untilExpiry(time.Now()))
	}
}

func (k *keeper) takeWaiting() {
	for range gatherAtMost {
		select {
		case m := <-k.c.mail:
			k.take(m)
		default:
			return
		}
	}
}

func (k *keeper) take(m message) {
	if m.ask != nil {
		k.round.answers = append(k.round.answers, answer{m.ask.taken, k.takeAsk(m.ask)})
		return
	}
	if m.found != nil {
		k.takeFound(m.found)
		return
	}
	k.takeUpdate(m.update)
}

func (k *keeper) takeUpdate(u *Update) {
	for _, x := range u.Conditions {
		k.c.conditions.set(x)
	}
	if u.Bundle != nil {
		k.takeBundle(u.Bundle)
	}
	if u.Local != nil {
		k.takeLocal(u.Local)
	}
	if u.Datacenter != "" {
		k.overview.datacenter, k.overview.node = u.Datacenter, u.Node
	}
	if u.Leaf != nil {
		k.takeLeaf(u.Leaf)
	}
	if k.foreign {
		// What another cluster allows says nothing about this one.
		return
	}
	if u.Normalization != nil {
		k.takeNormalization(*u.Normalization)
	}
	if u.Default != nil {
		k.takeDefault(k.configuredOr(*u.Default))
	}
	for s, raw := range u.Intentions {
		k.takeIntentions(s, raw)
	}
}

// stamp returns the index of this round's publication.
func (k *keeper) stamp() uint64 {
	k.round.stamped = true
	return k.index + 1
}

func (k *keeper) takeBundle(b *Bundle) {
	if k.foreign = !k.acceptTrustDomain(b.TrustDomain); k.foreign {
		return
	}
	now := time.Now()
	if k.bundle != nil && k.bundle.Bundle.Equal(b) {
		k.bundle.confirmed.set(now)
		return
	}
	// Leaves need a new look only where a root left the bundle.
	narrower := k.bundle != nil && lostRoot(k.bundle.Bundle, b)
	first := k.bundle == nil
	k.bundle = &BundlePart{Index: k.stamp(), Bundle: b}
	k.bundle.confirmed.set(now)
	k.round.bundle = true
	k.put(bucketMeta, keyBundle, encodeBundle(k.bundle))
	k.c.logger.Info("trust bundle changed", "trust_domain", b.TrustDomain, "active_root", b.ActiveRootID,
		"roots", len(b.Roots), "index", k.bundle.Index)
	for s := range k.members {
		k.round.dirty[s] = true
		if first {
			k.rebuildPolicy(s)
		}
	}
	for s, leaf := range k.held {
		k.adoptLeaf(s, leaf, now)
	}
	for s, part := range k.leaves {
		if narrower || part.Error != "" {
			k.judgeLeaf(s, now)
		}
	}
}

func lostRoot(old, new *Bundle) bool {
	have := map[string]bool{}
	for i := range new.Roots {
		have[new.Roots[i].CertPEM] = true
	}
	for i := range old.Roots {
		if !have[old.Roots[i].CertPEM] {
			return true
		}
	}
	return false
}

// watchTrustDomain is the condition of an upstream that changed its trust
// domain.
const watchTrustDomain = "trust_domain"

// acceptTrustDomain refuses an upstream that suddenly speaks for another trust
// domain: a trust domain never changes in the life of a cluster.
func (k *keeper) acceptTrustDomain(td string) bool {
	want := k.c.cfg.TrustDomain
	if want == "" && k.bundle != nil {
		want = k.bundle.Bundle.TrustDomain
	}
	x := Condition{Watch: watchTrustDomain}
	if want != "" && want != td {
		x.Failure = &Failure{Kind: FailureInvalid, Message: "upstream now speaks for trust domain " + td +
			" instead of " + want + "; if the cluster was rebuilt, stop the daemon and empty its store, " +
			"or set trust_domain in the consul block"}
	}
	k.c.conditions.set(x)
	return x.Failure == nil
}

func (k *keeper) takeDefault(d intentions.DefaultAction) {
	if k.overview.fallbackKnown && k.overview.fallback == d {
		return
	}
	if d.Allow && (k.overview.fallbackKnown && !k.overview.fallback.Allow) {
		k.c.logger.Warn("default action changed to allow", "origin", d.Origin)
	}
	k.overview.fallback, k.overview.fallbackKnown = d, true
	k.put(bucketMeta, keyDefault, encode(defaultRecord(d)))
	for s := range k.members {
		k.rebuildPolicy(s)
	}
}

// configuredOr returns the configured default action, where there is one. It
// takes effect with upstream's all the same: only then is it known how requests
// are normalized.
func (k *keeper) configuredOr(d intentions.DefaultAction) intentions.DefaultAction {
	if k.c.cfg.Default != nil {
		return *k.c.cfg.Default
	}
	return d
}

func (k *keeper) takeNormalization(n intentions.Normalization) {
	if k.overview.normalization == n {
		return
	}
	k.overview.normalization = n
	k.put(bucketMeta, keyNormalization, encode(n))
	for s := range k.members {
		k.rebuildPolicy(s)
	}
}

func (k *keeper) takeIntentions(s intentions.Service, raw json.RawMessage) {
	if k.members[s] == nil {
		return
	}
	if len(raw) == 0 {
		raw = json.RawMessage("null")
	}
	now := time.Now()
	if old, known := k.rows[s]; known && bytes.Equal(old.raw, raw) {
		k.rows[s] = rows{old.raw, old.list, now}
		if part := k.policies[s]; part != nil {
			part.confirmed.set(now)
		}
		return
	}
	list, err := intentions.ParseIntentions(raw)
	x := Condition{Watch: WatchIntentions, Service: s}
	if err != nil {
		// The source checked the rows, so this is a defect; the old policy
		// stays and grows stale, however often upstream repeats the new one.
		x.Failure = &Failure{Kind: FailureInvalid, Message: err.Error()}
	}
	k.c.conditions.set(x)
	if err != nil {
		return
	}
	k.rows[s] = rows{raw, list, now}
	k.rebuildPolicy(s)
}

// rebuildPolicy compiles a service's policy anew once all its inputs are known.
func (k *keeper) rebuildPolicy(s intentions.Service) {
	rows, known := k.rows[s]
	if !known || k.bundle == nil || !k.overview.fallbackKnown {
		return
	}
	part := newPolicyPart(s, k.bundle.Bundle.TrustDomain, &k.overview, rows)
	part.Index = k.stamp()
	k.policies[s] = part
	k.round.dirty[s] = true
	k.put(bucketPolicy, serviceKey(s), encodePolicy(part, &k.overview, rows.confirmed))
}

func newPolicyPart(s intentions.Service, trustDomain string, o *overview, r rows) *PolicyPart {
	policy, rowOfRule := intentions.NewPolicy(s, trustDomain, o.fallback, r.list)
	policy.Normalization = o.normalization
	part := &PolicyPart{
		Table: intentions.Compile(policy), Intentions: r.list, Raw: r.raw, rowOfRule: rowOfRule,
	}
	part.confirmed.set(r.confirmed)
	return part
}

func (k *keeper) put(bucket, key string, value []byte) {
	if k.round.batch[bucket] == nil {
		k.round.batch[bucket] = map[string][]byte{}
	}
	k.round.batch[bucket][key] = value
}

// PolicyOf builds the policy of a destination that is not watched from rows
// that were just read, under the trust domain and default action in force.
func (c *Cache) PolicyOf(destination intentions.Service, raw json.RawMessage) (*PolicyPart, error) {
	bundle, _ := c.Bundle()
	o := c.overall.Load()
	if bundle == nil || !o.fallbackKnown {
		return nil, &Failure{Kind: FailureUnreachable, Message: "the trust bundle and the default action are not known yet"}
	}
	list, err := intentions.ParseIntentions(raw)
	if err != nil {
		return nil, err
	}
	part := newPolicyPart(destination, bundle.Bundle.TrustDomain, o, rows{raw, list, time.Now()})
	part.Index = o.index
	return part, nil
}
