package connectd

import (
	"context"
	"time"
)

// Words of Status.State.
const (
	StateOK       = "ok"
	StateDegraded = "degraded"
	StateFailing  = "failing"
)

// Status is the state of the daemon and of the services that the caller may
// see.
type Status struct {
	State         string   `json:"state"`
	Version       string   `json:"version"`
	Index         uint64   `json:"index"`
	UptimeSeconds float64  `json:"uptime_seconds"`
	Datacenter    string   `json:"datacenter"`
	Upstream      Upstream `json:"upstream"`
	Store         string   `json:"store"`
	// StoreKey says where the key of the daemon's store is: systemd-credential,
	// file, generated-file, or off.
	StoreKey      string          `json:"store_key,omitempty"`
	Bundle        *BundleStatus   `json:"bundle,omitempty"`
	DefaultAction *DefaultAction  `json:"default_action,omitempty"`
	Services      []ServiceStatus `json:"services"`
	Problems      []Problem       `json:"problems"`
}

// Upstream is where the daemon's answers come from.
type Upstream struct {
	Name string `json:"name"`
	Node string `json:"node,omitempty"`
	// Confirmed is false while nothing was confirmed lately.
	Confirmed bool `json:"confirmed"`
}

// BundleStatus describes the trust bundle.
type BundleStatus struct {
	TrustDomain        string    `json:"trust_domain"`
	Roots              int       `json:"roots"`
	ActiveRoot         string    `json:"active_root"`
	ActiveRootNotAfter time.Time `json:"active_root_not_after"`
	AgeSeconds         float64   `json:"age_seconds"`
	Freshness          string    `json:"freshness"`
}

// DefaultAction is what applies when no intention matches, and who said so.
type DefaultAction struct {
	Action string `json:"action"`
	Origin string `json:"origin"`
}

// ServiceStatus describes one watched service.
type ServiceStatus struct {
	Service    Service     `json:"service"`
	Ready      bool        `json:"ready"`
	Index      uint64      `json:"index"`
	AgeSeconds float64     `json:"age_seconds"`
	Freshness  string      `json:"freshness"`
	Rules      int         `json:"rules"`
	Leaf       *LeafStatus `json:"leaf,omitempty"`
	// Cause says why the service is not ready, where that is known.
	Cause string `json:"cause,omitempty"`
}

// LeafStatus describes a leaf without its key.
type LeafStatus struct {
	SPIFFEID     string    `json:"spiffe_id"`
	SerialNumber string    `json:"serial_number"`
	NotAfter     time.Time `json:"not_after"`
	Error        string    `json:"error,omitempty"`
}

// Problem is a watch of the daemon that fails.
type Problem struct {
	Watch   string    `json:"watch"`
	Service string    `json:"service,omitempty"`
	Kind    string    `json:"kind"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// ServiceList is the services that the caller may act for.
type ServiceList struct {
	Index    uint64          `json:"index"`
	Services []ServiceStatus `json:"services"`
}

// Liveness says that the daemon runs.
type Liveness struct {
	Live bool `json:"live"`
}

// Readiness says that the daemon can answer from memory.
type Readiness struct {
	Ready bool `json:"ready"`
}

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return ask[Status](ctx, c, get("/v1/status"))
}

// Services lists the services that this process may act for.
func (c *Client) Services(ctx context.Context) (*ServiceList, error) {
	return ask[ServiceList](ctx, c, get("/v1/services"))
}

// Health reports whether the daemon runs; any error means that it does not.
func (c *Client) Health(ctx context.Context) (*Liveness, error) {
	return ask[Liveness](ctx, c, get("/healthz"))
}

// Readyz reports whether the daemon can answer from memory; if not, the error
// has the code not_ready.
func (c *Client) Readyz(ctx context.Context) (*Readiness, error) {
	return ask[Readiness](ctx, c, get("/readyz"))
}
