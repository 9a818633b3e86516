package devca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/connectd/connectd/cache"
)

const (
	// rootCommonName warns whoever looks at a chain.
	rootCommonName = "connectd development authority, NOT FOR PRODUCTION"
	rootLifetime   = 10 * 365 * 24 * time.Hour
	// crossSignedLifetime is Consul's; the certificate is needed only while
	// peers hold the old bundle.
	crossSignedLifetime = 7 * 24 * time.Hour
	// backdate keeps new certificates valid where clocks differ.
	backdate = time.Minute
)

// root is one root with its key. It is immutable.
type root struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	// crossPEM is the certificate of this root's key signed by the root before
	// it; empty for the first.
	crossPEM string
	index    uint64
}

func newRoot(serial uint64, now time.Time) (*root, error) {
	key, keyID, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetUint64(serial),
		Subject:               pkix.Name{CommonName: rootCommonName},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: TrustDomain}},
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLifetime),
		SubjectKeyId:          keyID,
		AuthorityKeyId:        keyID,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &root{key: key, cert: cert, index: serial}, nil
}

// newKey makes a key and its id, which Consul takes from the SHA-256 of the
// public key.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(spki)
	return key, sum[:], nil
}

// crossSign certifies the key of another root, so that peers who know only
// this one accept what the other signs.
func (r *root) crossSign(other *root, serial uint64, now time.Time) (string, error) {
	template := *other.cert
	template.SerialNumber = new(big.Int).SetUint64(serial)
	template.AuthorityKeyId = r.cert.SubjectKeyId
	template.NotBefore = now.Add(-backdate)
	template.NotAfter = template.NotBefore.Add(crossSignedLifetime)
	der, err := x509.CreateCertificate(rand.Reader, &template, r.cert, other.key.Public(), r.key)
	if err != nil {
		return "", err
	}
	return certificatePEM(der), nil
}

// describe returns what Consul says of a root.
func (r *root) describe(active bool) cache.Root {
	id := sha1.Sum(r.cert.Raw)
	d := cache.Root{
		ID:                  cache.HexColon(id[:]),
		Name:                "connectd development authority CA Primary Cert",
		SerialNumber:        r.cert.SerialNumber.Uint64(),
		SigningKeyID:        cache.HexColon(r.cert.SubjectKeyId),
		ExternalTrustDomain: strings.TrimSuffix(TrustDomain, ".consul"),
		NotBefore:           r.cert.NotBefore,
		NotAfter:            r.cert.NotAfter,
		CertPEM:             certificatePEM(r.cert.Raw),
		Active:              active,
		PrivateKeyType:      "ec",
		PrivateKeyBits:      r.key.Params().BitSize,
		CreateIndex:         r.index,
		ModifyIndex:         r.index,
	}
	if r.crossPEM != "" {
		d.IntermediatesPEM = []string{r.crossPEM}
	}
	return d
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
