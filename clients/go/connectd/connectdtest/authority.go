package connectdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/connectd/connectd/clients/go/connectd"
)

// keepRoots is how many roots a bundle has at most.
const keepRoots = 5

// authority signs leaves. The newest root stands first.
type authority struct {
	roots  []*x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority() (*authority, error) {
	a := &authority{}
	return a, a.rotate()
}

func (a *authority) rotate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: fmt.Sprintf("connectdtest root %d", a.serial)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: TrustDomain}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	a.key = key
	a.roots = append([]*x509.Certificate{root}, a.roots...)
	a.roots = a.roots[:min(len(a.roots), keepRoots)]
	return nil
}

func (a *authority) bundle(index uint64) object {
	var roots []connectd.Root
	for i, root := range a.roots {
		roots = append(roots, connectd.Root{
			ID: root.SerialNumber.String(), Active: i == 0, NotAfter: root.NotAfter,
			CertificatePEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})),
		})
	}
	return object{"index": index, "trust_domain": TrustDomain, "roots": roots}
}

// leaf returns the leaf of a service, signing it if there is none.
func (d *Daemon) leaf(service string) (*connectd.Leaf, error) {
	if leaf := d.leaves[service]; leaf != nil {
		return leaf, nil
	}
	a := d.authority
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := url.Parse(ID(service))
	if err != nil {
		return nil, err
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{id},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.roots[0], &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	d.keys[service] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
	d.leaves[service] = &connectd.Leaf{
		SPIFFEID: ID(service), SerialNumber: fmt.Sprintf("%x", a.serial), NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		CertificatePEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}
	return d.leaves[service], nil
}
