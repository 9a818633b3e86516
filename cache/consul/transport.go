package consul

import (
	"context"
	"net"
	"net/http"
	"time"
)

// The budget on plain HTTP, where every request that is held open costs a
// connection: four held, and three for everything short. The agent refuses
// the 201st connection of a host, and others on the host need theirs.
const (
	maxHeld  = 4
	maxShort = 3
	// heldMatches is how many intention queries may be among the held.
	heldMatches = 2
)

const (
	dialTimeout = 2 * time.Second
	// keepAlive and userTimeout bound how long a link that died silently goes
	// unnoticed.
	keepAlive   = 15 * time.Second
	userTimeout = 30 * time.Second
)

// newTransport makes connections to the endpoint, at most conns of them on
// plain HTTP.
func newTransport(e *endpoint, conns int) *http.Transport {
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive / 3, Count: 3},
		Control:         setUserTimeout,
	}
	t := &http.Transport{
		TLSClientConfig:     e.tls,
		ForceAttemptHTTP2:   e.multiplexed(),
		TLSHandshakeTimeout: 5 * time.Second,
		MaxConnsPerHost:     conns,
		MaxIdleConnsPerHost: conns,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
		// Consul's headers take well under a kilobyte.
		MaxResponseHeaderBytes: 64 << 10,
		DialContext:            dialer.DialContext,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: keepAlive,
			PingTimeout:     keepAlive,
		},
	}
	if e.multiplexed() {
		t.MaxConnsPerHost = 0
	}
	if e.socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", e.socket)
		}
	}
	return t
}
