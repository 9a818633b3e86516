package connectd

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Where the daemon listens, and the variables that say otherwise.
const (
	DefaultSocket = "/run/connectd/connectd.sock"
	EnvSocket     = "CONNECTD_SOCKET"
	EnvTrustUID   = "CONNECTD_TRUST_UID"
)

// DefaultTimeout is the Timeout of a Config that names none.
const DefaultTimeout = 10 * time.Second

// Config says which daemon to ask. Its zero value asks the one of this host.
type Config struct {
	// Socket is the path of the daemon's socket. Empty stands for the value of
	// CONNECTD_SOCKET, or else DefaultSocket.
	Socket string
	// Timeout is how long the daemon may take, beyond the time for which the
	// request itself lets it wait.
	Timeout time.Duration
	// TrustUID is the user besides root and ourselves whose daemon is believed.
	// Nil stands for the value of CONNECTD_TRUST_UID, or else the owner of the
	// socket's directory if only root can have made it.
	TrustUID *uint32
}

// NewClient returns a client. It does not ask the daemon for anything yet, so
// a daemon that starts later is no error.
func NewClient(cfg Config) (*Client, error) {
	cfg.Socket = cmp.Or(cfg.Socket, os.Getenv(EnvSocket), DefaultSocket)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	if err := checkPath(cfg.Socket); err != nil {
		return nil, err
	}
	t, err := newTrust(cfg.TrustUID)
	if err != nil {
		return nil, err
	}
	d := &dialer{socket: cfg.Socket, timeout: cfg.Timeout, trust: t}
	return &Client{socket: cfg.Socket, timeout: cfg.Timeout, transport: &http.Transport{
		DialContext:            d.dial,
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleFor,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}}, nil
}

const (
	maxIdle = 4
	// idleFor is less than the minute after which the daemon closes a
	// connection, so that few requests meet one that is just being closed.
	idleFor        = 45 * time.Second
	maxHeaderBytes = 16 << 10
	// maxSocketPath is what fits into a socket address on every platform.
	maxSocketPath = 103
)

func checkPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("connectd: socket path %s has %d bytes, more than the system's %d; choose a shorter one",
			path, len(path), maxSocketPath)
	}
	if strings.HasPrefix(path, "@") {
		return errors.New("connectd: abstract sockets have no owner and are not used; give the path of a file")
	}
	return nil
}

// trustUIDFromEnv returns nil if the variable is not set.
func trustUIDFromEnv() (*uint32, error) {
	text := os.Getenv(EnvTrustUID)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("connectd: %s=%q is not a numeric user id", EnvTrustUID, text)
	}
	uid := uint32(n)
	return &uid, nil
}
