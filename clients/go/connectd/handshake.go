package connectd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/connectd/connectd/intentions"
)

// handshake is one side's judgement of one peer, made from one snapshot.
type handshake struct {
	source   *Source
	snapshot *Snapshot
	// expected is the one service that may answer; nil on the server's side,
	// where the policy decides.
	expected *intentions.ID
	// judges is set where every request is judged, so that a connection whose
	// decision needs a request may be made.
	judges bool
	// conn is what TLS runs over; nil where that is not known.
	conn net.Conn
}

// verify is the tls.Config's VerifyConnection. That one also runs when a
// session is resumed, so no ticket outlives a decision.
func (h *handshake) verify(state tls.ConnectionState) error {
	peer, err := h.judge(state.PeerCertificates)
	if err != nil {
		h.source.noteFailure(peer, err)
		if c, ours := h.conn.(*carrier); ours {
			c.refused.Store(true)
		}
		return err
	}
	return nil
}

// judge returns the peer as far as it is known, and why it is refused.
func (h *handshake) judge(chain []*x509.Certificate) (Peer, error) {
	peer := Peer{Dialed: h.expected != nil}
	if h.conn != nil {
		peer.Address = h.conn.RemoteAddr()
	}
	if len(chain) == 0 || h.snapshot == nil {
		return peer, &Error{Code: CodePeerRefused, Message: "the peer shows no certificate, or nothing is known yet"}
	}
	id, ok := certificateID(chain[0])
	if !ok {
		return peer, &Error{Code: CodePeerRefused,
			Message: "the peer's certificate does not have the SPIFFE ID of one Consul service as its one URI"}
	}
	peer.ID = id
	usage := x509.ExtKeyUsageClientAuth
	if h.expected != nil {
		usage = x509.ExtKeyUsageServerAuth
	}
	now := time.Now()
	if err := h.vouch(chain, id, usage, now); err != nil {
		return peer, chainError(id, chain[0], err, now)
	}
	if err := h.identity(id); err != nil {
		return peer, err
	}
	return peer, h.follow(peer, chain, usage, now)
}

const (
	// patience is how long a handshake waits for a root that it does not know.
	// A rotation reaches the two ends of a connection at different moments.
	patience = 300 * time.Millisecond
	// maxPatient bounds how many wait, so that strangers hold nothing up.
	maxPatient = 64
)

// vouch verifies the chain. If the bundle has no root for it and the peer says
// that it is of our own trust domain, the rotation may only be on its way here:
// then the newer snapshot judges all of this handshake.
func (h *handshake) vouch(chain []*x509.Certificate, id intentions.ID, usage x509.ExtKeyUsage, now time.Time) error {
	err := h.snapshot.bundle.vouchesFor(chain, usage, now)
	if err == nil || !errors.As(err, new(x509.UnknownAuthorityError)) || !id.SameTrustDomain(h.snapshot.bundle.trustDomain) {
		return err
	}
	if h.source.patient.Add(1) <= maxPatient {
		if newer := h.source.otherBundle(h.snapshot.bundle); newer != nil {
			h.snapshot = newer
			err = newer.bundle.vouchesFor(chain, usage, now)
		}
	}
	h.source.patient.Add(-1)
	return err
}

// otherBundle waits for a snapshot with another bundle, or returns nil.
func (s *Source) otherBundle(than *heldBundle) *Snapshot {
	over := time.NewTimer(patience)
	defer over.Stop()
	for {
		changed := s.Changed()
		if now := s.Snapshot(); now != nil && now.bundle != than {
			return now
		}
		select {
		case <-changed:
		case <-over.C:
			return nil
		}
	}
}

// identity asks the policy on the server's side, and compares with the one
// expected ID on the client's.
func (h *handshake) identity(id intentions.ID) error {
	if want := h.expected; want != nil {
		if h.snapshot.Stale() {
			return &Error{Code: CodePeerRefused, Message: "the trust bundle is too old to be believed (" +
				ReasonPolicyStale + "); run: connectd status"}
		}
		if !id.SameTrustDomain(want.TrustDomain) || !id.SameTrustDomain(h.snapshot.bundle.trustDomain) ||
			!sameService(id.Service, want.Service) || id.Datacenter != want.Datacenter {
			return &Error{Code: CodeWrongServerID, Message: fmt.Sprintf("%s answered where %s was expected; run: "+
				"connectd status, and compare with where %s is registered", id, want, want.Service)}
		}
		return nil
	}
	d := h.snapshot.decideID(id, nil)
	h.source.count(id, d, 4)
	if d.Allowed || h.judges && d.Decision == PerRequest {
		return nil
	}
	return refused(id, h.snapshot.service, d)
}

// refused is the error for a peer that the policy does not let in.
func refused(id intentions.ID, destination Service, d Decision) *Error {
	what := fmt.Sprintf("%s may not connect to %s (%s); run: connectd authorize --source %s --destination %s",
		id, destination, d.Reason, id.Service, destination)
	if d.Decision == PerRequest {
		what = fmt.Sprintf("%s may send some requests to %s, and this server does not judge requests: use HTTPServer, "+
			"or an intention without permissions", id, destination)
	}
	return &Error{Code: CodePeerRefused, Message: what, decision: d.Reason}
}

// chainError tells a peer whose time is over from one that nobody vouches for.
func chainError(id intentions.ID, leaf *x509.Certificate, err error, now time.Time) *Error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.After(leaf.NotAfter) {
		e := leafExpired("the leaf of %s ended %s; run there: connectd leaf %s", id,
			leaf.NotAfter.UTC().Format(time.RFC3339), id.Service)
		e.cause = err
		return e
	}
	return &Error{Code: CodeUnknownRoot, cause: err, Message: fmt.Sprintf(
		"the trust bundle does not vouch for %s (%v); run: connectd bundle, here and there", id, err)}
}

// refusal translates the end of a connection by which the other side says that
// it does not accept us. In TLS 1.3 it arrives with the first read.
func refusal(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return err
	}
	switch op.Err.Error() {
	case "tls: bad certificate", "tls: access denied", "tls: unknown certificate":
		return &Error{Code: CodePeerRefused, cause: err, Message: "the other side refused our certificate: its policy does " +
			"not allow us, or its trust bundle does not know us; run there: connectd denials, or here: connectd authorize"}
	case "tls: expired certificate":
		e := leafExpired("the other side says that our leaf is over; run: connectd leaf")
		e.cause = err
		return e
	}
	return err
}

// Refusal returns err, or an *Error with the code peer_refused where err is how
// the other end of a connection says that it refuses us. In TLS 1.3 that is
// known only with the first read.
func Refusal(err error) error { return refusal(err) }
