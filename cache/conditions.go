package cache

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/intentions"
)

// conditions remembers which watches fail. A failure is logged when it begins,
// when its kind changes, hourly while it lasts, and when it ends.
type conditions struct {
	logger hclog.Logger

	mu      sync.Mutex // guards failing
	failing map[conditionKey]*remembered
}

type conditionKey struct {
	watch   string
	service intentions.Service
}

type remembered struct {
	failure Failure
	logged  time.Time
}

// repeatLog is how often a lasting failure is logged again.
const repeatLog = time.Hour

func (c *conditions) set(x Condition) {
	key := conditionKey{x.Watch, x.Service}
	now := time.Now()
	old, worthLogging := c.remember(key, x.Failure, now)
	switch {
	case x.Failure == nil && old != nil:
		c.log(hclog.Info, "watch recovered", key, "after", now.Sub(old.failure.Since).Round(time.Second))
	case worthLogging:
		c.log(hclog.Warn, "watch fails", key, "kind", x.Failure.Kind, "error", x.Failure.Message)
	}
}

// remember returns what was known before, and whether a failure is news.
func (c *conditions) remember(key conditionKey, f *Failure, now time.Time) (old *remembered, worthLogging bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old = c.failing[key]
	if f == nil {
		delete(c.failing, key)
		return old, false
	}
	if c.failing == nil {
		c.failing = map[conditionKey]*remembered{}
	}
	latest := &remembered{failure: *f, logged: now}
	latest.failure.Since = now
	worthLogging = true
	if old != nil {
		latest.failure.Since = old.failure.Since
		if old.failure.Kind == f.Kind && now.Sub(old.logged) < repeatLog {
			latest.logged, worthLogging = old.logged, false
		}
	}
	c.failing[key] = latest
	return old, worthLogging
}

func (c *conditions) log(level hclog.Level, text string, key conditionKey, rest ...any) {
	args := []any{"watch", key.watch}
	if key.service.Name != "" {
		args = append(args, "service", key.service.String())
	}
	c.logger.Log(level, text, append(args, rest...)...)
}

// get returns the failure of one watch, or nil.
func (c *conditions) get(watch string, s intentions.Service) *Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.failing[conditionKey{watch, s}]; r != nil {
		f := r.failure
		return &f
	}
	return nil
}

// forget drops what is remembered of a service that is no longer watched.
func (c *conditions) forget(s intentions.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.failing {
		if key.service == s {
			delete(c.failing, key)
		}
	}
}

// all lists the failing watches in a stable order.
func (c *conditions) all() []Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Condition, 0, len(c.failing))
	for key, r := range c.failing {
		f := r.failure
		out = append(out, Condition{Watch: key.watch, Service: key.service, Failure: &f})
	}
	slices.SortFunc(out, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(a.Watch, b.Watch), compareServices(a.Service, b.Service))
	})
	return out
}

// Cause explains why a service is not ready, in words for a person.
func (c *Cache) Cause(s intentions.Service) *Failure {
	var anyone intentions.Service
	for _, at := range []conditionKey{
		{WatchLeaf, s}, {WatchIntentions, s}, {WatchToken, s},
		{watchTrustDomain, anyone}, {WatchBundle, anyone}, {WatchIntentions, anyone}, {WatchToken, anyone},
	} {
		if f := c.conditions.get(at.watch, at.service); f != nil {
			return f
		}
	}
	return nil
}
