package sourcetest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// recorder is a cache.Feed that keeps what it was told, and complains of
// updates that no source may publish.
type recorder struct {
	t        *testing.T
	patience time.Duration

	mu    sync.Mutex // guards the rest
	wants map[intentions.Service]cache.Want
	// wantsChanged is closed when the wanted set changes, told when an update
	// arrives; both are then replaced.
	wantsChanged, told chan struct{}
	seen               seen
}

// seen is what a recorder was told.
type seen struct {
	// bundles and leaves hold each value once, in the order of arrival.
	bundles    []*cache.Bundle
	leaves     map[intentions.Service][]*cache.Leaf
	rows       map[intentions.Service]json.RawMessage
	fallback   *intentions.DefaultAction
	local      []cache.LocalService
	datacenter string
	failing    map[string]string
}

func newRecorder(t *testing.T, patience time.Duration, wants []cache.Want) *recorder {
	r := &recorder{
		t: t, patience: patience,
		wants:        map[intentions.Service]cache.Want{},
		wantsChanged: make(chan struct{}),
		told:         make(chan struct{}),
		seen: seen{
			leaves:  map[intentions.Service][]*cache.Leaf{},
			rows:    map[intentions.Service]json.RawMessage{},
			failing: map[string]string{},
		},
	}
	for _, w := range wants {
		r.wants[w.Service] = w
	}
	return r
}

// Wanted implements cache.Feed.
func (r *recorder) Wanted() ([]cache.Want, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []cache.Want
	for _, w := range r.wants {
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b cache.Want) int { return strings.Compare(a.Service.Name, b.Service.Name) })
	return list, r.wantsChanged
}

// Publish implements cache.Feed.
func (r *recorder) Publish(ctx context.Context, u cache.Update) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take(u)
	close(r.told)
	r.told = make(chan struct{})
	return nil
}

func (r *recorder) take(u cache.Update) {
	if b := u.Bundle; b != nil && !b.Equal(r.seen.bundle()) {
		r.checkActive(b)
		r.seen.bundles = append(r.seen.bundles, b)
	}
	if u.Leaf != nil {
		r.takeLeaf(u.Leaf)
	}
	for service, rows := range u.Intentions {
		if _, err := intentions.ParseIntentions(rows); err != nil {
			r.t.Errorf("rows of %s that cannot be parsed: %v", service, err)
		}
		r.seen.rows[service] = rows
	}
	if u.Default != nil {
		r.seen.fallback = u.Default
	}
	if u.Local != nil {
		r.seen.local = u.Local
	}
	if u.Datacenter != "" {
		r.seen.datacenter = u.Datacenter
	}
	for _, c := range u.Conditions {
		key := c.Watch + " " + c.Service.String()
		delete(r.seen.failing, key)
		if c.Failure != nil {
			r.seen.failing[key] = c.Failure.Message
		}
	}
}

// checkActive complains unless exactly the active root of a bundle is marked
// so.
func (r *recorder) checkActive(b *cache.Bundle) {
	var marked []string
	for _, root := range b.Roots {
		if root.Active {
			marked = append(marked, root.ID)
		}
	}
	if want := []string{b.ActiveRootID}; !slices.Equal(marked, want) {
		r.t.Errorf("got roots %q marked active, want %q", marked, want)
	}
}

// takeLeaf keeps a leaf and, as the cache does, shows it as held without
// waking the source. The bundle that verifies a leaf must have come before.
func (r *recorder) takeLeaf(l *cache.Leaf) {
	if err := l.Verify(r.seen.bundle(), time.Now()); err != nil {
		r.t.Errorf("a leaf arrived that the bundle before it does not verify: %v", err)
	}
	if w, wanted := r.wants[l.Service]; wanted && w.Leaf {
		w.Have = l
		r.wants[l.Service] = w
	}
	if old := r.seen.leaf(l.Service); old == nil || old.CertPEM != l.CertPEM {
		r.seen.leaves[l.Service] = append(r.seen.leaves[l.Service], l)
	}
}

// bundle is the newest bundle, or nil.
func (s *seen) bundle() *cache.Bundle {
	if len(s.bundles) == 0 {
		return nil
	}
	return s.bundles[len(s.bundles)-1]
}

// leaf is the newest leaf of a service, or nil.
func (s *seen) leaf(service intentions.Service) *cache.Leaf {
	list := s.leaves[service]
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1]
}

// list gives a service's intentions in deciding order as
// "source>destination action".
func (s *seen) list(service intentions.Service) []string {
	parsed, err := intentions.ParseIntentions(s.rows[service])
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, x := range parsed {
		out = append(out, fmt.Sprintf("%s>%s %s", x.SourceName, x.DestinationName, x.Action))
	}
	return out
}

func (s *seen) isLocal(service intentions.Service) bool {
	return slices.ContainsFunc(s.local, func(l cache.LocalService) bool { return l.Service == service })
}

// want adds services to the wanted set.
func (r *recorder) want(wants ...cache.Want) {
	r.changeWants(func() {
		for _, w := range wants {
			r.wants[w.Service] = w
		}
	})
}

// unwant takes a service from the wanted set.
func (r *recorder) unwant(service intentions.Service) {
	r.changeWants(func() { delete(r.wants, service) })
}

func (r *recorder) changeWants(edit func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit()
	close(r.wantsChanged)
	r.wantsChanged = make(chan struct{})
}

// look reads what was seen so far.
func (r *recorder) look(read func(s *seen)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	read(&r.seen)
}

// wait returns when what was seen meets the condition, and how long that took.
func (r *recorder) wait(what string, met func(s *seen) bool) time.Duration {
	r.t.Helper()
	begin := time.Now()
	late := time.NewTimer(r.patience)
	defer late.Stop()
	for {
		var done bool
		var told <-chan struct{}
		var failing map[string]string
		r.look(func(s *seen) { done, told, failing = met(s), r.told, maps.Clone(s.failing) })
		if done {
			return time.Since(begin)
		}
		select {
		case <-told:
		case <-late.C:
			r.t.Fatalf("within %s there was no %s; failing watches: %v", r.patience, what, failing)
		}
	}
}

// waitRows returns when a service's intentions are these, and how long that
// took.
func (r *recorder) waitRows(service intentions.Service, want ...string) time.Duration {
	r.t.Helper()
	return r.wait(fmt.Sprintf("answer %q for %s", want, service), func(s *seen) bool {
		rows, known := s.rows[service]
		return known && slices.Equal(s.list(service), want) && (len(want) > 0 || string(rows) == "null")
	})
}

// waitLeaf returns the first leaf of a service.
func (r *recorder) waitLeaf(service intentions.Service) *cache.Leaf {
	r.t.Helper()
	var leaf *cache.Leaf
	r.wait("leaf of "+service.String(), func(s *seen) bool {
		leaf = s.leaf(service)
		return leaf != nil
	})
	return leaf
}

// waitBundle returns the first bundle.
func (r *recorder) waitBundle() *cache.Bundle {
	r.t.Helper()
	var bundle *cache.Bundle
	r.wait("trust bundle", func(s *seen) bool {
		bundle = s.bundle()
		return bundle != nil
	})
	return bundle
}
