package socketapi

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Peer is the local process at the other end of a connection, as the kernel
// reported it when the connection was accepted. It is read once and never
// changes.
type Peer struct {
	PID int32
	UID uint32
	GID uint32
	// Groups are the supplementary groups.
	Groups []uint32
	// Pinned is true where the kernel holds the process for us, so that its
	// number cannot have passed to another one while the rest was read. What
	// follows is empty without it.
	Pinned bool
	// Cgroup is the absolute path of the control group.
	Cgroup string
	// Unit is the system unit that the process belongs to, such as
	// "web.service".
	Unit string
	// Container is the id of the container, 64 hexadecimal digits.
	Container string
}

// nobody is the id of a peer whose ids could not be read. It is never
// admitted.
const nobody = 1<<32 - 1

// unknownPeer is a peer that no rule can name.
func unknownPeer() Peer { return Peer{PID: -1, UID: nobody, GID: nobody} }

// connection is what is known of one accepted connection.
type connection struct {
	peer Peer
	// held keeps the peer's process; nil where the kernel cannot do that.
	held *process
	// gone is true where the kernel could have held the process and did not:
	// it had ended before the connection was accepted.
	gone bool
	// stranger is set once bytes came from another process than the one that
	// connected: the descriptor was passed on or inherited.
	stranger atomic.Bool
	// refused says why the front refused what was sent last. It is written and
	// read by the one goroutine that reads the connection, in turns.
	refused atomic.Pointer[string]

	mu sync.Mutex // guards ahead
	// ahead is when a read that asked above our index was last answered here.
	ahead time.Time
}

// lives reports whether the process that connected still runs, as far as the
// kernel can tell.
func (c *connection) lives() bool {
	if c.held == nil {
		return !c.gone
	}
	return c.held.lives()
}

// identify reads everything that is known of the peer of a connection.
func identify(c *net.UnixConn, pin Pin) *connection {
	out := &connection{peer: unknownPeer()}
	peer, err := peerOf(c)
	if err != nil {
		return out
	}
	out.peer = peer
	out.held, out.gone = hold(c, pin)
	if out.held == nil {
		return out
	}
	path := cgroupOf(peer.PID)
	// What was read by number counts only if the number was the peer's all the
	// while.
	if !out.held.lives() {
		return out
	}
	out.peer.Pinned, out.peer.Cgroup = true, path
	out.peer.Unit, out.peer.Container = unitOf(path), containerOf(path)
	return out
}

type connectionKey struct{}

// withConnection is the ConnContext of the servers: it passes on what was read
// when the connection was accepted.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	conn := &connection{peer: unknownPeer()}
	if a, ok := c.(*accepted); ok {
		conn = a.of
	}
	return context.WithValue(ctx, connectionKey{}, conn)
}

func connectionOf(ctx context.Context) *connection {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		return c
	}
	return &connection{peer: unknownPeer()}
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
