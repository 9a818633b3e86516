package devca

import (
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// signer is the certificate authority: its roots, and the counter that gives
// serial numbers and indexes.
type signer struct {
	datacenter   string
	leafLifetime time.Duration

	mu sync.Mutex // guards the rest
	// counter starts at the clock, because the authority is new at each start
	// while clients remember serial numbers across our restarts.
	counter uint64
	active  *root
	// retired are in the bundle but sign no more, the newest last.
	retired []retiredRoot
}

type retiredRoot struct {
	*root
	at time.Time
}

func newSigner(datacenter string, leafLifetime time.Duration) (*signer, error) {
	now := time.Now()
	s := &signer{datacenter: datacenter, leafLifetime: leafLifetime, counter: uint64(max(now.UnixMilli(), 0))}
	var err error
	s.active, err = newRoot(s.next(), now)
	return s, err
}

// next counts.
func (s *signer) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counter++
	return s.counter
}

// rotate makes a new root active.
func (s *signer) rotate(now time.Time) error {
	r, err := newRoot(s.next(), now)
	if err != nil {
		return err
	}
	crossSerial := s.next()
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.crossPEM, err = s.active.crossSign(r, crossSerial, now); err != nil {
		return err
	}
	s.retired = append(s.retired, retiredRoot{s.active, now})
	s.active = r
	return nil
}

// prune forgets roots out of use for twice the lifetime of a leaf, as Consul
// does, and reports whether there were any.
func (s *signer) prune(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.retired)
	s.retired = slices.DeleteFunc(s.retired, func(r retiredRoot) bool {
		return now.Sub(r.at) > 2*s.leafLifetime
	})
	return len(s.retired) < before
}

// bundle returns the roots, in the order of their ids as in Consul, and the
// active one.
func (s *signer) bundle() (*cache.Bundle, *root, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	roots := []cache.Root{s.active.describe(true)}
	for _, r := range s.retired {
		roots = append(roots, r.describe(false))
	}
	activeID := roots[0].ID
	slices.SortFunc(roots, func(a, b cache.Root) int { return cmp.Compare(a.ID, b.ID) })
	b, err := cache.NewBundle(TrustDomain, activeID, roots)
	return b, s.active, err
}

// leaf issues a leaf with a new key.
func (s *signer) leaf(by *root, service intentions.Service, now time.Time) (*cache.Leaf, error) {
	serial := s.next()
	key, keyID, err := newKey()
	if err != nil {
		return nil, err
	}
	template, err := s.leafTemplate(service, now)
	if err != nil {
		return nil, err
	}
	template.SerialNumber = new(big.Int).SetUint64(serial)
	template.SubjectKeyId, template.AuthorityKeyId = keyID, by.cert.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	leaf, err := cache.ParseLeaf(service, certificatePEM(der)+by.crossPEM, cache.NewSecret(string(keyPEM)))
	if err != nil {
		return nil, fmt.Errorf("issue leaf: %w", err)
	}
	leaf.CreateIndex, leaf.ModifyIndex = serial, serial
	return leaf, nil
}

// leafTemplate has the shape of Consul's leaves: no subject, and so a critical
// name extension, with one URI.
func (s *signer) leafTemplate(service intentions.Service, now time.Time) (*x509.Certificate, error) {
	id, err := url.Parse(intentions.ID{
		TrustDomain: TrustDomain, Service: service, Datacenter: s.datacenter,
	}.String())
	if err != nil {
		return nil, fmt.Errorf("issue leaf: %w", err)
	}
	// A short life must not begin with most of it spent.
	notBefore := now.Add(-min(backdate, s.leafLifetime/10))
	return &x509.Certificate{
		URIs:                  []*url.URL{id},
		BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment |
			x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   notBefore,
		NotAfter:    notBefore.Add(s.leafLifetime),
	}, nil
}
