package connectd

import (
	"sync"
	"time"
)

const (
	// farewell is how long a connection whose requests are judged may finish
	// the one under way, while any further one is refused.
	farewell = 300 * time.Millisecond
	// lastWord is how long TLS may take to say goodbye to a peer that may not
	// be reading.
	lastWord = 250 * time.Millisecond
)

// revocation is a connection that is to end, and why.
type revocation struct {
	connection *connection
	reason     string
}

// revoke closes the connections that the present snapshot does not allow. Only
// the goroutines of the source call it.
func (s *Source) revoke() {
	now := s.Snapshot()
	if now == nil {
		return
	}
	var plain, judged []revocation
	var looks pass
	for _, c := range s.connections.all() {
		why := c.refusedBy(now, &looks)
		if why == "" || !s.connections.remove(c) {
			continue
		}
		c.revoked.Store(true)
		if c.judges {
			judged = append(judged, revocation{c, why})
		} else {
			plain = append(plain, revocation{c, why})
		}
	}
	if len(plain)+len(judged) == 0 {
		return
	}
	s.options.logger.Warn("connectd: closing connections that are no longer allowed",
		"service", s.service.String(), "count", len(plain)+len(judged))
	s.running.Go(func() { s.end(plain) })
	s.running.Go(func() {
		// Requests that come meanwhile are refused with the wish to close, which
		// HTTP/2 sends on as GOAWAY.
		time.Sleep(farewell)
		s.end(judged)
	})
}

// end closes connections, says goodbye where TLS is ours, and tells of it.
func (s *Source) end(list []revocation) {
	if len(list) == 0 {
		return
	}
	var goodbyes sync.WaitGroup
	for _, r := range list {
		if r.connection.secure == nil {
			_ = r.connection.raw.Close()
			continue
		}
		goodbyes.Go(func() { _ = r.connection.secure.Close() })
	}
	// Closing what TLS runs over ends a goodbye that nobody reads.
	hard := time.AfterFunc(lastWord, func() {
		for _, r := range list {
			_ = r.connection.raw.Close()
		}
	})
	goodbyes.Wait()
	hard.Stop()
	if s.options.revoked == nil {
		return
	}
	for _, r := range list {
		s.options.revoked(r.connection.peer, r.reason)
	}
}
