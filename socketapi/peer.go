package socketapi

import (
	"context"
	"net"
	"sync"
	"time"
)

// Peer is the local process at the other end of a connection, as the kernel
// reported it when the connection was accepted.
type Peer struct {
	PID int32
	UID uint32
	GID uint32
}

// connection is what is known of one accepted connection.
type connection struct {
	peer Peer

	mu sync.Mutex // guards ahead
	// ahead is when a read that asked above our index was last answered here.
	ahead time.Time
}

type connectionKey struct{}

// withConnection is the ConnContext of the servers: it reads the peer once.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	conn := &connection{}
	if peer, err := peerOf(c); err == nil {
		conn.peer = peer
	} else {
		// Nobody: an id that no rule can name.
		conn.peer = Peer{PID: -1, UID: nobody, GID: nobody}
	}
	return context.WithValue(ctx, connectionKey{}, conn)
}

// nobody is the overflow id that the kernel gives for users it cannot map. It
// is never admitted.
const nobody = 1<<32 - 1

func connectionOf(ctx context.Context) *connection {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		return c
	}
	return &connection{peer: Peer{PID: -1, UID: nobody, GID: nobody}}
}

// aheadPause is the least time between two answers to reads that ask above our
// index, so that a client with an index of another life cannot spin.
const aheadPause = 100 * time.Millisecond

// untilAhead returns how long such a read has to wait, and counts it.
func (c *connection) untilAhead(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.ahead.Add(aheadPause)
	if at.Before(now) {
		at = now
	}
	c.ahead = at
	return at.Sub(now)
}
