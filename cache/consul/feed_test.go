package consul

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// feed is a cache.Feed that remembers everything it is told.
type feed struct {
	mu      sync.Mutex // guards the rest
	wants   []cache.Want
	changed chan struct{}
	told    []told
}

type told struct {
	at time.Time
	cache.Update
}

func newFeed() *feed { return &feed{changed: make(chan struct{})} }

// Wanted implements cache.Feed.
func (f *feed) Wanted() ([]cache.Want, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.wants), f.changed
}

// Publish implements cache.Feed. A leaf is shown as held, which wakes nobody.
func (f *feed) Publish(ctx context.Context, u cache.Update) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, told{time.Now(), u})
	for i := range f.wants {
		if u.Leaf != nil && f.wants[i].Service == u.Leaf.Service {
			f.wants[i].Have = u.Leaf
		}
	}
	return nil
}

// want replaces the wanted set.
func (f *feed) want(wants ...cache.Want) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wants = slices.Clone(wants)
	slices.SortFunc(wants, func(a, b cache.Want) int { return strings.Compare(a.Service.Name, b.Service.Name) })
	f.wants = wants
	close(f.changed)
	f.changed = make(chan struct{})
}

// policies wants the intentions of some services, leaves their leaves too.
func policies(names ...string) []cache.Want { return wantsOf(false, names) }
func leavesOf(names ...string) []cache.Want { return wantsOf(true, names) }

func wantsOf(leaf bool, names []string) []cache.Want {
	var out []cache.Want
	for _, name := range names {
		out = append(out, cache.Want{Service: intentions.NewService(name), Leaf: leaf})
	}
	return out
}

// names makes n names with one prefix.
func names(prefix string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%s-%04d", prefix, i))
	}
	return out
}

// newest returns what the newest update that has it says, and when it came.
func newest[T any](f *feed, pick func(cache.Update) (T, bool)) (T, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range slices.Backward(f.told) {
		if v, ok := pick(u.Update); ok {
			return v, u.at
		}
	}
	var none T
	return none, time.Time{}
}

func (f *feed) bundle() *cache.Bundle {
	b, _ := newest(f, func(u cache.Update) (*cache.Bundle, bool) { return u.Bundle, u.Bundle != nil })
	return b
}

func (f *feed) leaf(name string) *cache.Leaf {
	l, _ := newest(f, func(u cache.Update) (*cache.Leaf, bool) {
		return u.Leaf, u.Leaf != nil && u.Leaf.Service.Name == name
	})
	return l
}

// rows returns a destination's rows as last told, or "" if never.
func (f *feed) rows(name string) string {
	r, _ := newest(f, func(u cache.Update) (string, bool) {
		raw, ok := u.Intentions[intentions.NewService(name)]
		return string(raw), ok
	})
	return r
}

func (f *feed) fallback() *intentions.DefaultAction {
	d, _ := newest(f, func(u cache.Update) (*intentions.DefaultAction, bool) { return u.Default, u.Default != nil })
	return d
}

func (f *feed) local() []string {
	list, _ := newest(f, func(u cache.Update) ([]cache.LocalService, bool) { return u.Local, u.Local != nil })
	var out []string
	for _, l := range list {
		out = append(out, l.Service.Name)
	}
	return out
}

// failure returns the state of a watch as last told; name may be empty.
func (f *feed) failure(watch, name string) *cache.Failure {
	x, _ := newest(f, func(u cache.Update) (*cache.Failure, bool) {
		for _, c := range slices.Backward(u.Conditions) {
			if c.Watch == watch && c.Service.Name == name {
				return c.Failure, true
			}
		}
		return nil, false
	})
	return x
}

// kind is the failure's kind, or "".
func (f *feed) kind(watch, name string) string {
	if x := f.failure(watch, name); x != nil {
		return x.Kind
	}
	return ""
}

// count returns how many updates meet a condition.
func (f *feed) count(met func(cache.Update) bool) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, u := range f.told {
		if met(u.Update) {
			n++
		}
	}
	return n
}

func hasLeaf(u cache.Update) bool { return u.Leaf != nil }

// values returns everything that was ever told, conditions aside, each once.
func (f *feed) values() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]bool{}
	for _, u := range f.told {
		if u.Bundle != nil {
			out[fmt.Sprintf("bundle %s %v", u.Bundle.ActiveRootID, u.Bundle.Roots)] = true
		}
		if u.Leaf != nil {
			out["leaf "+u.Leaf.CertPEM] = true
		}
		for service, raw := range u.Intentions {
			out[fmt.Sprintf("rows of %s: %s", service, raw)] = true
		}
		if u.Default != nil {
			out[fmt.Sprintf("default %+v", *u.Default)] = true
		}
		if u.Local != nil {
			out[fmt.Sprintf("local %v", u.Local)] = true
		}
	}
	return out
}
