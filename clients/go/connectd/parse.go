package connectd

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/connectd/connectd/intentions"
)

// snapshotWire is a snapshot whose policy is kept as it came, for the engine
// to read: what it does not know narrows a rule.
type snapshotWire struct {
	Head
	Schema    int             `json:"schema"`
	Index     uint64          `json:"index"`
	Service   Service         `json:"service"`
	Leaf      *Leaf           `json:"leaf"`
	LeafError string          `json:"leaf_error"`
	Bundle    json.RawMessage `json:"bundle"`
	Policy    json.RawMessage `json:"policy"`
}

// maxAgeSeconds bounds ages, so that no sum of two of them overflows.
const maxAgeSeconds = 100 * 365 * 24 * 3600

// parseSnapshot reads an answer about want and refuses all of it if any part
// is not what it has to be: half of an answer is no consistent set. What did
// not change is taken over from before, which may be nil.
func parseSnapshot(in *snapshotWire, want intentions.Service, before *Snapshot) (*Snapshot, error) {
	switch {
	case in.Schema < 1 || in.Index == 0:
		return nil, errors.New("it has no schema or no index")
	case !sameService(in.Service.parts(), want):
		return nil, fmt.Errorf("it is about %.64q", in.Service.String())
	case !(in.AgeSeconds >= 0 && in.AgeSeconds <= maxAgeSeconds):
		return nil, errors.New("its age is out of range")
	case before == nil:
		before = &Snapshot{}
	}
	out := &Snapshot{index: in.Index, service: in.Service}
	out.age.denyAfter = time.Duration(min(in.DenyAfterSeconds, maxAgeSeconds)) * time.Second
	var err error
	if out.bundle, err = parseBundle(in.Bundle, before.bundle); err != nil {
		return nil, err
	}
	if out.policy, err = parsePolicy(in.Policy, want, out.bundle, before.policy); err != nil {
		return nil, err
	}
	return out, out.takeLeaf(in, before)
}

func sameService(a, b intentions.Service) bool {
	return a.Name == b.Name && a.Namespace == b.Namespace && strings.EqualFold(a.Partition, b.Partition)
}

func parseBundle(raw json.RawMessage, before *heldBundle) (*heldBundle, error) {
	sum := sha256.Sum256(raw)
	if before != nil && before.sum == sum {
		return before, nil
	}
	var in Bundle
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, errors.New("its bundle cannot be read: " + decodeTrouble(err))
	}
	if !intentions.ValidName(in.TrustDomain) || len(in.Roots) == 0 {
		return nil, errors.New("its bundle has no trust domain or no root")
	}
	out := &heldBundle{sum: sum, trustDomain: in.TrustDomain, pool: x509.NewCertPool()}
	for i := range in.Roots {
		block, rest := pem.Decode([]byte(in.Roots[i].CertificatePEM))
		if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
			return nil, fmt.Errorf("root %d of its bundle is not one certificate", i+1)
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("root %d of its bundle: %w", i+1, err)
		}
		out.pool.AddCert(root)
	}
	return out, nil
}

func parsePolicy(raw json.RawMessage, want intentions.Service, b *heldBundle, before *heldPolicy) (*heldPolicy, error) {
	sum := sha256.Sum256(raw)
	if before != nil && before.sum == sum {
		return before, nil
	}
	p, err := intentions.ParsePolicy(raw)
	if err != nil {
		return nil, errors.New("its policy cannot be read")
	}
	// These two members say what they say in every schema.
	var also struct {
		Index          uint64   `json:"index"`
		RequestHeaders []string `json:"request_headers"`
	}
	if err := json.Unmarshal(raw, &also); err != nil {
		return nil, errors.New("its policy cannot be read: " + decodeTrouble(err))
	}
	if p.Schema <= intentions.PolicySchema {
		if !sameService(p.Destination, want) {
			return nil, fmt.Errorf("its policy is about %.64q", p.Destination.String())
		}
		if !strings.EqualFold(p.TrustDomain, b.trustDomain) {
			return nil, errors.New("its policy and its bundle have different trust domains")
		}
	}
	return &heldPolicy{sum: sum, index: also.Index, table: intentions.Compile(p), headers: also.RequestHeaders}, nil
}

// takeLeaf reads the leaf, or keeps the one that the daemon knows we have.
func (s *Snapshot) takeLeaf(in *snapshotWire, before *Snapshot) error {
	switch {
	case in.Leaf == nil && in.LeafError != "":
		s.leafError = in.LeafError
		return nil
	case in.Leaf == nil && before.leaf != nil:
		s.leaf = before.leaf
		return nil
	case in.Leaf == nil:
		return errors.New("it has no leaf and does not say why")
	}
	certificate, err := tls.X509KeyPair([]byte(in.Leaf.CertificatePEM), []byte(in.Leaf.PrivateKeyPEM.Reveal()))
	if err != nil {
		// The error names what is wrong and quotes nothing of the key.
		return fmt.Errorf("its leaf: %w", err)
	}
	if certificate.Leaf == nil {
		if certificate.Leaf, err = x509.ParseCertificate(certificate.Certificate[0]); err != nil {
			return fmt.Errorf("its leaf: %w", err)
		}
	}
	id, ok := certificateID(certificate.Leaf)
	if !ok || !sameService(id.Service, s.service.parts()) {
		return errors.New("its leaf is not one of this service")
	}
	chain, err := parseChain(certificate.Certificate)
	if err != nil {
		return fmt.Errorf("its leaf: %w", err)
	}
	if err := s.bundle.vouchesFor(chain, x509.ExtKeyUsageAny, within(certificate.Leaf, time.Now())); err != nil {
		return fmt.Errorf("its leaf does not belong to its bundle: %w", err)
	}
	s.service.Datacenter = cmp.Or(s.service.Datacenter, id.Datacenter)
	s.leaf = &heldLeaf{certificate: certificate, serial: in.Leaf.SerialNumber, id: id.String(), notAfter: certificate.Leaf.NotAfter}
	return nil
}

func parseChain(der [][]byte) ([]*x509.Certificate, error) {
	chain := make([]*x509.Certificate, len(der))
	for i := range der {
		c, err := x509.ParseCertificate(der[i])
		if err != nil {
			return nil, err
		}
		chain[i] = c
	}
	return chain, nil
}

// within returns now, or the nearest moment at which the certificate is valid:
// who vouches for it does not depend on its dates.
func within(c *x509.Certificate, now time.Time) time.Time {
	switch {
	case now.Before(c.NotBefore):
		return c.NotBefore
	case now.After(c.NotAfter):
		return c.NotAfter
	}
	return now
}

// vouchesFor verifies a chain, the leaf first, for a usage against the roots
// at a moment.
func (b *heldBundle) vouchesFor(chain []*x509.Certificate, usage x509.ExtKeyUsage, at time.Time) error {
	options := x509.VerifyOptions{
		Roots: b.pool, CurrentTime: at, Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{usage},
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(options)
	return err
}
