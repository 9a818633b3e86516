package socketapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// door is a listener that knows who comes in, and lets only so many in.
type door struct {
	net.Listener
	pin    Pin
	limits *Limits
}

// passing is a failure to accept that the server waits out: it tries again
// after a pause, instead of ending because descriptors or memory ran out.
type passing struct{ error }

func (passing) Temporary() bool { return true }
func (passing) Timeout() bool   { return false }

// Accept returns the next connection with its peer.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err != nil {
			return nil, passing{err}
		}
		a := &accepted{Conn: c, of: &connection{peer: unknownPeer()}, limits: d.limits}
		if u, ok := c.(*net.UnixConn); ok {
			a.unix, a.of = u, identify(u, d.pin)
		}
		if d.limits.enter(a.of.peer.UID) {
			a.entered = true
			a.front = front{read: a.receive, waiting: a.headBegun, refuse: func(problem string) { a.of.refused.Store(&problem) }}
			return a, nil
		}
		a.turnAway()
	}
}

// accepted is one accepted connection.
type accepted struct {
	net.Conn
	// unix is the connection, where it is one of a Unix socket.
	unix    *net.UnixConn
	of      *connection
	front   front
	limits  *Limits
	entered bool
	once    sync.Once

	mu sync.Mutex // guards deadline and headBy
	// deadline is what the server set, headBy when a head that began has to be
	// whole; whichever comes first holds.
	deadline, headBy time.Time
}

// Read hands on requests that have one meaning. A defect in judging them ends
// this connection: the server reads where nothing else would stop a panic.
func (a *accepted) Read(p []byte) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			n, err = 0, fmt.Errorf("reading panicked: %T", r)
		}
	}()
	return a.front.Read(p)
}

// receive reads, and notices when another process than the one that connected
// writes.
func (a *accepted) receive(p []byte) (int, error) {
	if a.unix == nil {
		return a.Conn.Read(p)
	}
	n, sender, err := receive(a.unix, p)
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	if sender != 0 && sender != a.of.peer.PID {
		a.of.stranger.Store(true)
	}
	return n, err
}

// headBegun bounds the time for a head from its first byte. The server's own
// bound begins with the first byte that it is handed.
func (a *accepted) headBegun(begun bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.headBy = time.Time{}
	if begun {
		a.headBy = time.Now().Add(readHeaderTimeout)
	}
	_ = a.apply()
}

// SetReadDeadline keeps the bound of a head that began.
func (a *accepted) SetReadDeadline(t time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deadline = t
	return a.apply()
}

// SetDeadline does the same for both directions.
func (a *accepted) SetDeadline(t time.Time) error {
	return errors.Join(a.SetReadDeadline(t), a.SetWriteDeadline(t))
}

func (a *accepted) apply() error {
	t := a.deadline
	if !a.headBy.IsZero() && (t.IsZero() || a.headBy.Before(t)) {
		t = a.headBy
	}
	return a.Conn.SetReadDeadline(t)
}

// Close is the one place where the peer's process is let go. The server calls
// it for every connection, several times for some.
func (a *accepted) Close() error {
	a.once.Do(func() {
		if a.of.refused.Load() != nil {
			a.discard()
		}
		if a.entered {
			a.limits.leave(a.of.peer.UID)
		}
		if a.of.held != nil {
			a.of.held.close()
		}
	})
	return a.Conn.Close()
}

// discard drops what has arrived and nobody reads: a socket that is closed
// with data in it takes the answer back.
func (a *accepted) discard() {
	if a.unix != nil {
		discard(a.unix)
	}
}

// tooMany is the answer to one connection too many.
const tooMany = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\n" +
	"Connection: close\r\nContent-Length: 120\r\n\r\n" +
	`{"error":{"code":"too_many_requests","message":"too many connections are open; close some, or share one between calls"}}`

// turnAway answers and closes; the room of a new socket takes the answer
// without waiting.
func (a *accepted) turnAway() {
	a.discard()
	_ = a.Conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
	_, _ = io.WriteString(a.Conn, tooMany)
	_ = a.Close()
}
