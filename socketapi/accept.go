package socketapi

import (
	"io"
	"net"
	"sync"
)

// door is a listener that knows who comes in.
type door struct {
	net.Listener
	pin Pin
}

// Accept returns the next connection with its peer.
func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	a := &accepted{Conn: c, of: &connection{peer: unknownPeer()}}
	if u, ok := c.(*net.UnixConn); ok {
		a.unix, a.of = u, identify(u, d.pin)
	}
	return a, nil
}

// accepted is one accepted connection.
type accepted struct {
	net.Conn
	// unix is the connection, where it is one of a Unix socket.
	unix *net.UnixConn
	of   *connection
	once sync.Once
}

// Read reads, and notices when another process than the one that connected
// writes.
func (a *accepted) Read(p []byte) (int, error) {
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

// Close is the one place where the peer's process is let go. The server calls
// it for every connection, several times for some.
func (a *accepted) Close() error {
	err := a.Conn.Close()
	a.once.Do(func() {
		if a.of.held != nil {
			a.of.held.close()
		}
	})
	return err
}
