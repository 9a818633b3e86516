package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"
)

const (
	// copyAfter lets a burst of changes end before a copy is made.
	copyAfter = 10 * time.Second
	// copyEvery is the least time between two copies.
	copyEvery = 10 * time.Minute
)

// Run keeps a verified copy of the store that is not older than about ten
// minutes of changes, until ctx ends: what opening falls back to where the
// file is damaged.
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case <-s.changed:
		case <-ctx.Done():
			return nil
		}
		if !pause(ctx, copyAfter) {
			return nil
		}
		if err := s.Copy(); err != nil {
			s.logger.Warn("no copy of the store was made", "error", err)
			s.remind()
		}
		if !pause(ctx, copyEvery) {
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// remind makes Run make a copy, now or when its pause is over.
func (s *Store) remind() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Copy writes the copy from memory, not from the file, so that damage to the
// file is not copied; verifies it as the file is verified; and puts it in
// place of the last one.
func (s *Store) Copy() error {
	s.mu.Lock()
	if err := s.prepare(); err != nil {
		s.mu.Unlock()
		return err
	}
	all := maps.Clone(s.sealed)
	for bucket, list := range all {
		all[bucket] = maps.Clone(list)
	}
	image, err := s.image(all, s.manifest)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.dir.writeCopy(image)
}

func (d *directory) writeCopy(image records) error {
	const temporary = previousName + newSuffix
	f, err := create(d.join(temporary), image)
	if err != nil {
		return err
	}
	f.close()
	read, err := examine(d.join(temporary))
	if err != nil {
		return err
	}
	if !maps.EqualFunc(read, image, func(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }) {
		return fmt.Errorf("%w: the copy reads back otherwise", ErrDamaged)
	}
	return d.rename(temporary, previousName)
}
