package devca

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const (
	// confirmEvery is how often everything is said again, well within the time
	// after which a cache calls it stale.
	confirmEvery = 30 * time.Second
	// renewAt is the part of a leaf's life after which it is replaced.
	renewAt = 0.6
	// node names the only host there is.
	node = "connectd-development"
)

// session is one Run: what was issued to its feed.
type session struct {
	a    *Authority
	feed cache.Feed
	// issued are the leaves of this session, which the feed may not show as
	// held yet.
	issued map[intentions.Service]*cache.Leaf
}

// Run implements cache.Source.
func (a *Authority) Run(ctx context.Context, feed cache.Feed) error {
	s := &session{a: a, feed: feed, issued: map[intentions.Service]*cache.Leaf{}}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	confirm := time.NewTicker(confirmEvery)
	defer confirm.Stop()
	renew := time.NewTimer(0)
	defer renew.Stop()
	for ctx.Err() == nil {
		wants, wantsChanged := feed.Wanted()
		now := a.current()
		next, err := s.report(ctx, now, wants)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("run development authority: %w", err)
		}
		renew.Reset(time.Until(next))
		if err := s.wait(ctx, now, wantsChanged, look, confirm, renew); err != nil {
			return err
		}
	}
	return nil
}

// wait returns when there is something to report, or ctx ended.
func (s *session) wait(ctx context.Context, now *state, wantsChanged <-chan struct{}, look, confirm *time.Ticker, renew *time.Timer) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wantsChanged:
			return nil
		case <-now.changed:
			return nil
		case <-renew.C:
			return nil
		case at := <-confirm.C:
			return s.a.prune(at)
		case at := <-look.C:
			s.a.reload(at)
		}
	}
}

// report says everything to the feed, the bundle before the leaves that it
// verifies, and returns when the next leaf has to be renewed.
func (s *session) report(ctx context.Context, now *state, wants []cache.Want) (time.Time, error) {
	u := cache.Update{
		Bundle:     now.bundle,
		Intentions: make(map[intentions.Service]json.RawMessage, len(wants)),
		Default:    &s.a.cfg.Default,
		Local:      now.local(),
		Datacenter: s.a.cfg.Datacenter,
		Node:       node,
		Conditions: []cache.Condition{{Watch: cache.WatchIntentions, Failure: now.failure}},
	}
	for _, w := range wants {
		rows, err := now.content.rows(w.Service)
		if err != nil {
			return time.Time{}, err
		}
		u.Intentions[w.Service] = rows
	}
	if err := s.feed.Publish(ctx, u); err != nil {
		return time.Time{}, err
	}
	return s.reportLeaves(ctx, now, wants)
}

func (s *session) reportLeaves(ctx context.Context, now *state, wants []cache.Want) (time.Time, error) {
	next := time.Now().Add(confirmEvery)
	kept := make(map[intentions.Service]*cache.Leaf, len(wants))
	for _, w := range wants {
		if !w.Leaf {
			continue
		}
		leaf, u := s.leaf(w, now)
		if u != nil {
			if err := s.feed.Publish(ctx, *u); err != nil {
				return next, err
			}
		}
		if leaf == nil {
			continue
		}
		kept[w.Service] = leaf
		if due := leaf.At(renewAt); due.Before(next) {
			next = due
		}
	}
	s.issued = kept
	return next, nil
}

// leaf returns the leaf that a want should hold, and what to tell the feed
// unless it holds that one already.
func (s *session) leaf(w cache.Want, now *state) (*cache.Leaf, *cache.Update) {
	at := time.Now()
	if good(w.Have, now.bundle, at) {
		return w.Have, nil
	}
	leaf := s.issued[w.Service]
	if !good(leaf, now.bundle, at) {
		var err error
		if leaf, err = s.a.signer.leaf(now.signing, w.Service, at); err != nil {
			return nil, &cache.Update{Conditions: []cache.Condition{{
				Watch: cache.WatchLeaf, Service: w.Service,
				Failure: &cache.Failure{Kind: cache.FailureInvalid, Message: err.Error()},
			}}}
		}
	}
	s.a.logger.Debug("leaf issued", "service", w.Service.String(), "serial_number", leaf.SerialNumber)
	return leaf, &cache.Update{
		Leaf:       leaf,
		Conditions: []cache.Condition{{Watch: cache.WatchLeaf, Service: w.Service}},
	}
}

// good reports whether a leaf needs no replacement: the active root signed it
// and most of its life lies ahead.
func good(l *cache.Leaf, b *cache.Bundle, now time.Time) bool {
	return l != nil && l.SignedBy(b.Active()) && l.Verify(b, now) == nil && now.Before(l.At(renewAt))
}
