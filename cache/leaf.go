package cache

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Leaf is the certificate chain and the private key of one service. It is
// immutable.
type Leaf struct {
	Service      intentions.Service
	SPIFFEID     string
	Datacenter   string
	SerialNumber string
	// CertPEM is the leaf, then its intermediates.
	CertPEM string
	// KeyPEM is the private key as upstream wrote it.
	KeyPEM Secret
	// NotBefore and NotAfter are the dates of the leaf.
	NotBefore, NotAfter time.Time
	// AuthorityKeyID is the key id of the signer, in lower-case hex with
	// colons, as Consul writes a root's SigningKeyID.
	AuthorityKeyID string
	// CreateIndex and ModifyIndex are Consul's.
	CreateIndex, ModifyIndex uint64

	chain []*x509.Certificate
}

// ParseLeaf checks a certificate chain and its key: the key fits, the first
// certificate is a leaf with exactly one URI, and that names service.
func ParseLeaf(service intentions.Service, certPEM string, keyPEM Secret) (*Leaf, error) {
	chain, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", service, err)
	}
	cert := chain[0]
	if cert.IsCA {
		return nil, fmt.Errorf("certificate of %s is a certificate authority", service)
	}
	if len(cert.URIs) != 1 {
		return nil, fmt.Errorf("certificate of %s has %d URIs, not one", service, len(cert.URIs))
	}
	id, err := intentions.ParseID(cert.URIs[0].String())
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", service, err)
	}
	if id.Service != service {
		return nil, fmt.Errorf("asked for a certificate of %s and got one of %s", service, id.Service)
	}
	if err := checkKey(certPEM, keyPEM); err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", service, err)
	}
	return &Leaf{
		Service:        service,
		SPIFFEID:       cert.URIs[0].String(),
		Datacenter:     id.Datacenter,
		SerialNumber:   HexColon(cert.SerialNumber.Bytes()),
		CertPEM:        certPEM,
		KeyPEM:         keyPEM,
		NotBefore:      cert.NotBefore,
		NotAfter:       cert.NotAfter,
		AuthorityKeyID: HexColon(cert.AuthorityKeyId),
		chain:          chain,
	}, nil
}

// checkKey never lets the text of an error carry the key.
func checkKey(certPEM string, keyPEM Secret) error {
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM.Reveal()))
	if err != nil {
		return errors.New("the private key does not fit the certificate")
	}
	switch key := pair.PrivateKey.(type) {
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
		return nil
	case *rsa.PrivateKey:
		if key.N.BitLen() >= 2048 {
			return nil
		}
	}
	return errors.New("the private key is of a kind or size that is not accepted")
}

// Verify checks that the leaf chains to a root of the bundle at now and lies
// in its trust domain.
func (l *Leaf) Verify(b *Bundle, now time.Time) error {
	if b == nil {
		return errors.New("no trust bundle yet")
	}
	id, err := intentions.ParseID(l.SPIFFEID)
	if err != nil {
		return err
	}
	if !id.SameTrustDomain(b.TrustDomain) {
		return fmt.Errorf("certificate of %s belongs to trust domain %s, not %s",
			l.Service, id.TrustDomain, b.TrustDomain)
	}
	intermediates := x509.NewCertPool()
	for _, c := range l.chain[1:] {
		intermediates.AddCert(c)
	}
	_, err = l.chain[0].Verify(x509.VerifyOptions{
		Roots:         b.pool,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("certificate of %s does not chain to a known root: %w", l.Service, err)
	}
	return nil
}

// Expired reports whether the leaf has passed its end.
func (l *Leaf) Expired(now time.Time) bool { return now.After(l.NotAfter) }

// Lifetime is the time between the leaf's dates.
func (l *Leaf) Lifetime() time.Duration { return l.NotAfter.Sub(l.NotBefore) }

// Spent is the part of the leaf's life that is over, 0 to 1 and beyond.
func (l *Leaf) Spent(now time.Time) float64 {
	if l.Lifetime() <= 0 {
		return 1
	}
	return float64(now.Sub(l.NotBefore)) / float64(l.Lifetime())
}

// At returns the moment at which the given part of the leaf's life is over.
func (l *Leaf) At(part float64) time.Time {
	return l.NotBefore.Add(time.Duration(part * float64(l.Lifetime())))
}

// SignedBy reports whether the root's signing key issued the leaf.
func (l *Leaf) SignedBy(r *Root) bool {
	return r != nil && strings.EqualFold(l.AuthorityKeyID, r.SigningKeyID)
}

// KeyPKCS8 returns the private key as a PKCS#8 PEM, the form of our own
// routes.
func (l *Leaf) KeyPKCS8() (Secret, error) {
	block, _ := pem.Decode([]byte(l.KeyPEM.Reveal()))
	if block == nil {
		return Secret{}, fmt.Errorf("private key of %s is not PEM", l.Service)
	}
	if block.Type == "PRIVATE KEY" {
		return l.KeyPEM, nil
	}
	key, err := parsePrivateKey(block)
	if err != nil {
		return Secret{}, fmt.Errorf("private key of %s cannot be parsed", l.Service)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Secret{}, fmt.Errorf("private key of %s cannot be encoded", l.Service)
	}
	return NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), nil
}

func parsePrivateKey(block *pem.Block) (crypto.PrivateKey, error) {
	if block.Type == "RSA PRIVATE KEY" {
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

// HexColon writes bytes as Consul does: lower-case hex pairs joined by colons.
func HexColon(b []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":")
}
