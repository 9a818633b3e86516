package connectd

import (
	"encoding/json"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Words of Head.Freshness.
const (
	Fresh = "fresh"
	Stale = "stale"
)

// Head says how old an answer is and how durable. It stands in front of every
// answer that comes from a snapshot.
type Head struct {
	// AgeSeconds is the time since upstream confirmed the answer.
	AgeSeconds float64 `json:"age_seconds"`
	// Freshness is fresh while upstream confirms, else stale.
	Freshness string `json:"freshness"`
	// DenyAfterSeconds is the age past which every decision is deny.
	DenyAfterSeconds uint64 `json:"deny_after_seconds"`
	// Store is ok, behind or degraded.
	Store string `json:"store"`
}

// Service names a service by its three parts, and where it is.
type Service struct {
	Partition  string `json:"partition"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Datacenter string `json:"datacenter,omitempty"`
}

// parts leaves the datacenter out.
func (s Service) parts() intentions.Service {
	return intentions.Service{Partition: s.Partition, Namespace: s.Namespace, Name: s.Name}
}

// String returns the bare name where the other two parts are default, and
// partition/namespace/name otherwise.
func (s Service) String() string { return s.parts().String() }

// SnapshotAnswer is leaf, bundle and policy of one service as one consistent set,
// as they came over the socket.
type SnapshotAnswer struct {
	Head
	Schema  int     `json:"schema"`
	Index   uint64  `json:"index"`
	Service Service `json:"service"`
	// Leaf is nil if the caller has it already, or LeafError says why there is
	// none to present.
	Leaf      *Leaf   `json:"leaf,omitempty"`
	LeafError string  `json:"leaf_error,omitempty"`
	Bundle    *Bundle `json:"bundle"`
	Policy    *Policy `json:"policy"`
}

// Leaf is the certificate chain and the private key of one service.
type Leaf struct {
	Index        uint64 `json:"index"`
	SPIFFEID     string `json:"spiffe_id"`
	SerialNumber string `json:"serial_number"`
	// CertificatePEM is the leaf, then its intermediates.
	CertificatePEM string     `json:"certificate_pem"`
	PrivateKeyPEM  PrivateKey `json:"private_key_pem"`
	NotBefore      time.Time  `json:"not_before"`
	NotAfter       time.Time  `json:"not_after"`
}

// Bundle is all roots of one trust domain.
type Bundle struct {
	Index       uint64 `json:"index"`
	TrustDomain string `json:"trust_domain"`
	Roots       []Root `json:"roots"`
}

// Root is one certificate of a bundle.
type Root struct {
	ID             string    `json:"id"`
	CertificatePEM string    `json:"certificate_pem"`
	Active         bool      `json:"active"`
	NotAfter       time.Time `json:"not_after"`
}

// Policy is one destination's intentions in deciding order. Its rules are kept
// as they came: whoever evaluates them has to see the members it does not
// know, because they narrow a rule.
type Policy struct {
	Index          uint64                   `json:"index"`
	Schema         int                      `json:"schema"`
	TrustDomain    string                   `json:"trust_domain"`
	Destination    intentions.Service       `json:"destination"`
	DefaultAction  string                   `json:"default_action"`
	DefaultOrigin  string                   `json:"default_origin"`
	RequestHeaders []string                 `json:"request_headers"`
	Normalization  intentions.Normalization `json:"normalization"`
	Rules          []json.RawMessage        `json:"rules"`
}

// LeafAnswer is a leaf with its head.
type LeafAnswer struct {
	Head
	Service Service `json:"service"`
	Leaf
}

// BundleAnswer is the trust bundle with its head.
type BundleAnswer struct {
	Head
	Bundle
}

// PolicyAnswer is a policy with its head.
type PolicyAnswer struct {
	Head
	Policy
}

// ReadyAnswer says that a service has everything it needs.
type ReadyAnswer struct {
	Head
	Ready bool `json:"ready"`
}

// Discovery lists the healthy mesh instances of a service.
type Discovery struct {
	Head
	Index     uint64     `json:"index"`
	Service   Service    `json:"service"`
	Instances []Instance `json:"instances"`
}

// Instance is one place where a service can be reached, and the SPIFFE ID to
// expect there.
type Instance struct {
	ID         string `json:"id"`
	Node       string `json:"node"`
	Address    string `json:"address"`
	Port       int    `json:"port"`
	Datacenter string `json:"datacenter"`
	SPIFFEID   string `json:"spiffe_id"`
}
