package connectd

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Snapshot is leaf, bundle and policy of one service as one consistent set. It
// is immutable and safe for concurrent use. A nil Snapshot denies everything:
// nothing is known yet.
type Snapshot struct {
	index   uint64
	service Service
	leaf    *heldLeaf
	// leafError says why there is no leaf to present.
	leafError string
	bundle    *heldBundle
	policy    *heldPolicy
	age       ageing
	// ask decides what cannot be decided here; nil denies it.
	ask func(q Question) Decision
}

// heldLeaf is a leaf that was checked.
type heldLeaf struct {
	certificate tls.Certificate
	serial      string
	id          string
	notAfter    time.Time
}

// heldBundle is a trust bundle that was checked.
type heldBundle struct {
	sum         [sha256.Size]byte
	trustDomain string
	pool        *x509.CertPool
}

// heldPolicy is a compiled policy.
type heldPolicy struct {
	sum     [sha256.Size]byte
	index   uint64
	table   *intentions.Table
	headers []string
}

// ageing says how old a snapshot is, by the clock of its source.
type ageing struct {
	// now is read instead of the system's clock, because a decision takes less
	// time than reading that. Its owner keeps it at most a second behind.
	now *atomic.Int64
	// confirmed is when upstream last confirmed the snapshot, on that clock.
	confirmed time.Duration
	denyAfter time.Duration
}

func (a *ageing) age() time.Duration { return time.Duration(a.now.Load()) - a.confirmed }

func (a *ageing) over() bool { return a.age() > a.denyAfter }

// Index is the daemon's index of this snapshot.
func (s *Snapshot) Index() uint64 { return s.index }

// Service names the service and the datacenter it is in.
func (s *Snapshot) Service() Service { return s.service }

// SPIFFEID is that of the leaf; empty if there is none to present.
func (s *Snapshot) SPIFFEID() string {
	if s.leaf == nil {
		return ""
	}
	return s.leaf.id
}

// TrustDomain is that of the bundle.
func (s *Snapshot) TrustDomain() string { return s.bundle.trustDomain }

// Table is the compiled policy. It knows nothing of its own age: decide with
// the Snapshot.
func (s *Snapshot) Table() *intentions.Table { return s.policy.table }

// Roots returns the trust bundle as a pool of its own.
func (s *Snapshot) Roots() *x509.CertPool { return s.bundle.pool.Clone() }

// NotAfter is when the leaf ends; zero if there is none.
func (s *Snapshot) NotAfter() time.Time {
	if s.leaf == nil {
		return time.Time{}
	}
	return s.leaf.notAfter
}

// Stale reports whether the snapshot is older than decisions may be.
func (s *Snapshot) Stale() bool { return s.age.over() }

// Certificate returns the leaf with its key for a TLS configuration. Without
// one to present the error has the code leaf_expired and says what to do.
func (s *Snapshot) Certificate() (*tls.Certificate, error) {
	switch {
	case s == nil:
		return nil, &Error{Code: CodeNotReady, Message: "there is no snapshot yet; see connectd status"}
	case s.leaf == nil:
		return nil, leafExpired("the leaf of %s is %s and could not be renewed; run: connectd leaf %s",
			s.service, s.leafError, s.service)
	case time.Now().After(s.leaf.notAfter):
		return nil, leafExpired("the leaf of %s ended %s; is the daemon running? run: connectd status",
			s.service, s.leaf.notAfter.UTC().Format(time.RFC3339))
	}
	return &s.leaf.certificate, nil
}
