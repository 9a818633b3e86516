package connectd

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Peer is the other end of a connection.
type Peer struct {
	// ID is the zero value if the peer showed none.
	ID      intentions.ID
	Address net.Addr
	// Dialed is set if this process made the connection.
	Dialed bool
}

// connection is one that passed its handshake and is followed until its end.
type connection struct {
	peer  Peer
	chain []*x509.Certificate
	usage x509.ExtKeyUsage
	// shook is when the chain was verified. Its dates counted then; later only
	// the roots do, because a leaf may end before its connections.
	shook time.Time
	// judges is set where every request is judged.
	judges bool
	// raw is what TLS runs over, and secure the connection itself where we
	// made it.
	raw    net.Conn
	secure *tls.Conn

	// bundle is the last one that vouched.
	bundle  atomic.Pointer[heldBundle]
	revoked atomic.Bool
}

// tracker knows the open connections. Its zero value is empty.
type tracker struct {
	mu   sync.Mutex // guards open
	open map[*connection]struct{}
}

func (t *tracker) add(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[*connection]struct{}{}
	}
	t.open[c] = struct{}{}
}

// remove reports whether the connection was there.
func (t *tracker) remove(c *connection) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, there := t.open[c]
	delete(t.open, c)
	return there
}

func (t *tracker) all() []*connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*connection, 0, len(t.open))
	for c := range t.open {
		list = append(list, c)
	}
	return list
}

func (t *tracker) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// sweep forgets the connections of foreign servers that have ended: nobody
// tells us of their end, but their descriptors know.
func (t *tracker) sweep() {
	for _, c := range t.all() {
		if _, ours := c.raw.(*carrier); !ours && ended(c.raw) {
			t.remove(c)
		}
	}
}

// ended reports whether a socket is closed on this side.
func ended(conn net.Conn) bool {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := s.SyscallConn()
	return err != nil || raw.Control(func(uintptr) {}) != nil
}

// carrier is what TLS runs over where we made the connection: it tells when
// that ends.
type carrier struct {
	net.Conn
	source *Source
	secure *tls.Conn
	held   atomic.Pointer[connection]
	// refused is set when the peer was told that it is refused.
	refused atomic.Bool
	// closed is closed with the connection.
	closed chan struct{}
	once   sync.Once
}

func carry(conn net.Conn, s *Source) *carrier {
	return &carrier{Conn: conn, source: s, closed: make(chan struct{})}
}

// Close ends the connection and the following of it.
func (c *carrier) Close() error {
	if held := c.held.Load(); held != nil {
		c.source.connections.remove(held)
	}
	if c.refused.Swap(false) {
		c.linger()
	}
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

const (
	lingerFor   = 300 * time.Millisecond
	lingerBytes = 64 << 10
)

// linger lets a refused peer read why. It believes the handshake to be over
// and may have written already; the system would answer that with a reset,
// and the peer would see a broken pipe in the place of the refusal.
func (c *carrier) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerFor)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
}

// follow remembers the connection of a handshake that passed, and looks at the
// newest snapshot once more: one that was published between the judgement and
// this moment has not seen the connection.
func (h *handshake) follow(peer Peer, chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	if h.conn == nil {
		return nil
	}
	c := &connection{peer: peer, chain: chain, usage: usage, shook: now, judges: h.judges, raw: h.conn}
	c.bundle.Store(h.snapshot.bundle)
	mine, ours := h.conn.(*carrier)
	if ours {
		c.secure = mine.secure
		mine.held.Store(c)
	}
	if _, socket := h.conn.(syscall.Conn); !socket && !ours {
		h.source.denials.note(denialKey{peer.ID.String(), "not_followed", ""}, "this connection is not closed when its peer is "+
			"no longer allowed, because what TLS runs over is no socket: use Listen")
		return nil
	}
	h.source.connections.add(c)
	newest := h.source.Snapshot()
	if newest == h.snapshot {
		return nil
	}
	if why := c.refusedBy(newest, &pass{}); why != "" && h.source.connections.remove(c) {
		return &Error{Code: CodePeerRefused, decision: why, Message: peer.ID.String() +
			" is not allowed any more (" + why + "); the policy changed during the handshake"}
	}
	return nil
}

// pass is one look at all connections: many have the same peer.
type pass struct {
	// vouched has a leaf's bytes once the bundle was asked about it.
	vouched map[string]bool
	// asked has what the daemon had to decide.
	asked map[intentions.ID]Decision
}

// refusedBy returns why a snapshot does not allow the connection; empty if it
// does.
func (c *connection) refusedBy(s *Snapshot, p *pass) string {
	if c.bundle.Load() != s.bundle {
		if !p.vouches(s.bundle, c) {
			return CodeUnknownRoot
		}
		c.bundle.Store(s.bundle)
	}
	if c.peer.Dialed {
		if s.Stale() {
			return ReasonPolicyStale
		}
		return ""
	}
	d := s.decision(s.policy.table.Decide(c.peer.ID))
	if !s.understood(d.local) {
		d = p.ask(s, c.peer.ID)
	}
	if d.Decision == Deny || d.Decision == PerRequest && !c.judges {
		return d.Reason
	}
	return ""
}

func (p *pass) vouches(b *heldBundle, c *connection) bool {
	key := string(c.chain[0].Raw)
	good, known := p.vouched[key]
	if known {
		return good
	}
	good = b.vouchesFor(c.chain, c.usage, c.shook) == nil
	if p.vouched == nil {
		p.vouched = map[string]bool{}
	}
	p.vouched[key] = good
	return good
}

func (p *pass) ask(s *Snapshot, id intentions.ID) Decision {
	d, known := p.asked[id]
	if known {
		return d
	}
	if p.asked == nil {
		p.asked = map[intentions.ID]Decision{}
	}
	d = s.askDaemon(id.String(), nil)
	p.asked[id] = d
	return d
}
