package cache

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Bundle is the trust bundle: all roots of one trust domain. It is immutable.
type Bundle struct {
	TrustDomain  string
	ActiveRootID string
	Roots        []Root

	pool *x509.CertPool
}

// Root is one certificate of the bundle with what Consul says of it
// (GET /v1/connect/ca/roots).
type Root struct {
	ID                  string
	Name                string
	SerialNumber        uint64
	SigningKeyID        string
	ExternalTrustDomain string
	NotBefore           time.Time
	NotAfter            time.Time
	CertPEM             string   `json:"RootCert"`
	IntermediatesPEM    []string `json:"IntermediateCerts"`
	Active              bool
	PrivateKeyType      string
	PrivateKeyBits      int
	CreateIndex         uint64
	ModifyIndex         uint64
}

// NewBundle checks the roots and makes them ready for verification: a trust
// domain, at least one root, exactly one of them active, every certificate a
// certificate authority.
func NewBundle(trustDomain, activeRootID string, roots []Root) (*Bundle, error) {
	b := &Bundle{TrustDomain: strings.ToLower(trustDomain), ActiveRootID: activeRootID, Roots: roots}
	if b.TrustDomain == "" {
		return nil, errors.New("the trust bundle has no trust domain")
	}
	b.pool = x509.NewCertPool()
	active := 0
	for i := range roots {
		cert, err := parseOne(roots[i].CertPEM)
		if err != nil {
			return nil, fmt.Errorf("root %q: %w", roots[i].ID, err)
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("root %q is not a certificate authority", roots[i].ID)
		}
		b.pool.AddCert(cert)
		if roots[i].ID == activeRootID {
			active++
		}
	}
	if active != 1 {
		return nil, fmt.Errorf("the trust bundle has %d active roots, not one", active)
	}
	return b, nil
}

// Active returns the root that signs now.
func (b *Bundle) Active() *Root {
	for i := range b.Roots {
		if b.Roots[i].ID == b.ActiveRootID {
			return &b.Roots[i]
		}
	}
	return nil
}

// Equal reports whether two bundles say the same.
func (b *Bundle) Equal(other *Bundle) bool {
	return b != nil && other != nil && b.TrustDomain == other.TrustDomain &&
		b.ActiveRootID == other.ActiveRootID && reflect.DeepEqual(b.Roots, other.Roots)
}

func parseOne(text string) (*x509.Certificate, error) {
	certs, err := parseCertificates(text)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%d certificates, not one", len(certs))
	}
	return certs[0], nil
}

// parseCertificates parses a PEM text that holds certificates and nothing else.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := []byte(text)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("a PEM block that is not a certificate")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate that cannot be parsed")
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("not a sequence of PEM certificates")
	}
	return certs, nil
}
