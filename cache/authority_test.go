package cache

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/connectd/connectd/intentions"
)

const testDomain = "11111111-2222-3333-4444-555555555555.consul"

// signer is a certificate authority of the tests: a root, or an intermediate
// with the chain above it, root left out.
type signer struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
}

var testSerial = func() func() *big.Int {
	n := int64(1000)
	return func() *big.Int { n++; return big.NewInt(n) }
}()

func newTestKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyID(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return sum[:]
}

func authorityTemplate(t testing.TB, name string, key *ecdsa.PrivateKey) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: testSerial(), Subject: pkix.Name{CommonName: name},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: testDomain}},
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		SubjectKeyId: keyID(t, key),
	}
}

// sign makes a certificate under parent's key.
func sign(t testing.TB, template, parent *x509.Certificate, public, signing *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.AuthorityKeyId = parent.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public.Public(), signing)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newSigner(t testing.TB, name string) *signer {
	key := newTestKey(t)
	template := authorityTemplate(t, name, key)
	return &signer{cert: sign(t, template, template, key, key), key: key}
}

// intermediate makes an authority below s.
func (s *signer) intermediate(t testing.TB, name string) *signer {
	key := newTestKey(t)
	cert := sign(t, authorityTemplate(t, name, key), s.cert, key, s.key)
	return &signer{cert: cert, key: key, chain: append([]*x509.Certificate{cert}, s.chain...)}
}

// crossSigned is other with a certificate of its key under s: what other signs
// verifies under the root of s.
func (s *signer) crossSigned(t testing.TB, other *signer) *signer {
	template := *other.cert
	template.SerialNumber = testSerial()
	cert := sign(t, &template, s.cert, other.key, s.key)
	return &signer{cert: other.cert, key: other.key, chain: []*x509.Certificate{cert}}
}

func pemOf(certs ...*x509.Certificate) string {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return string(out)
}

// root describes the signer as Consul would.
func (s *signer) root() Root {
	return Root{
		ID: HexColon(s.cert.SerialNumber.Bytes()), Name: s.cert.Subject.CommonName,
		SerialNumber: s.cert.SerialNumber.Uint64(), SigningKeyID: HexColon(s.cert.SubjectKeyId),
		NotBefore: s.cert.NotBefore, NotAfter: s.cert.NotAfter, CertPEM: pemOf(s.cert),
		IntermediatesPEM: []string{}, PrivateKeyType: "ec", PrivateKeyBits: 256,
	}
}

// bundleOf makes a bundle of several roots, of which the first is active.
func bundleOf(t testing.TB, domain string, roots ...*signer) *Bundle {
	t.Helper()
	var list []Root
	for i, r := range roots {
		list = append(list, r.root())
		list[i].Active = i == 0
	}
	b, err := NewBundle(domain, list[0].ID, list)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keyPEM(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// leafText makes the PEM texts of a leaf of s that lives from a minute ago on.
func (s *signer) leafText(t testing.TB, service intentions.Service, domain string, life time.Duration) (cert, key string) {
	t.Helper()
	id := intentions.ID{TrustDomain: domain, Service: service, Datacenter: "dc1"}
	uri, err := url.Parse(id.String())
	if err != nil {
		t.Fatal(err)
	}
	private := newTestKey(t)
	template := &x509.Certificate{
		SerialNumber: testSerial(), URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leaf := sign(t, template, s.cert, private, s.key)
	return pemOf(slices.Concat([]*x509.Certificate{leaf}, s.chain)...), keyPEM(t, private)
}

func (s *signer) leaf(t testing.TB, name string, life time.Duration) *Leaf {
	t.Helper()
	cert, key := s.leafText(t, intentions.NewService(name), testDomain, life)
	l, err := ParseLeaf(intentions.NewService(name), cert, NewSecret(key))
	if err != nil {
		t.Fatal(err)
	}
	return l
}
