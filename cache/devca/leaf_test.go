package devca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

func issue(t *testing.T, a *Authority, s intentions.Service) *cache.Leaf {
	t.Helper()
	leaf, err := a.signer.leaf(a.current().signing, s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func certificate(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestLeafHasConsulsShape(t *testing.T) {
	a := newAuthority(t, Config{})
	leaf := issue(t, a, web)
	cert := certificate(t, leaf.CertPEM)
	root := a.current().bundle.Active()
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	key, isEC := cert.PublicKey.(*ecdsa.PublicKey)
	usage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment |
		x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"subject", cert.Subject.String(), ""},
		{"uri", cert.URIs[0].String(), "spiffe://" + TrustDomain + "/ns/default/dc/dc1/svc/web"},
		{"names", len(cert.URIs) + len(cert.DNSNames) + len(cert.IPAddresses) + len(cert.EmailAddresses), 1},
		{"critical_names", criticalNames(cert), true},
		{"key", isEC && key.Curve == elliptic.P256(), true},
		{"key_pem", strings.HasPrefix(leaf.KeyPEM.Reveal(), "-----BEGIN EC PRIVATE KEY-----\n"), true},
		{"usage", cert.KeyUsage, usage},
		{"ext_usage", len(cert.ExtKeyUsage), 2},
		{"ca", cert.IsCA || !cert.BasicConstraintsValid, false},
		{"signature", cert.SignatureAlgorithm, x509.ECDSAWithSHA256},
		{"subject_key_id", string(cert.SubjectKeyId), string(spki[:])},
		{"authority_key_id", cache.HexColon(cert.AuthorityKeyId), root.SigningKeyID},
		{"lifetime", leaf.Lifetime(), DefaultLeafLifetime},
		{"backdate", time.Since(leaf.NotBefore).Round(10 * time.Second), time.Minute},
		{"next_serial", certificate(t, issue(t, a, web).CertPEM).SerialNumber.Uint64(), cert.SerialNumber.Uint64() + 1},
		{"index", leaf.ModifyIndex, cert.SerialNumber.Uint64()},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
}

func criticalNames(cert *x509.Certificate) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			return e.Critical
		}
	}
	return false
}

func TestLeafOfAnyName(t *testing.T) {
	a := newAuthority(t, Config{Datacenter: "dc-2"})
	for _, c := range []struct {
		service intentions.Service
		want    string
	}{
		{intentions.NewService("My.Own_Name-1"), "/ns/default/dc/dc-2/svc/My.Own_Name-1"},
		{intentions.Service{Partition: "p", Namespace: "n", Name: "x"}, "/ap/p/ns/n/dc/dc-2/svc/x"},
	} {
		if got := issue(t, a, c.service).SPIFFEID; got != "spiffe://"+TrustDomain+c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if _, err := a.signer.leaf(a.current().signing, intentions.NewService("a b"), time.Now()); err == nil {
		t.Error("a name that is no name got a leaf")
	}
}

func TestRootWarnsAndIsDescribed(t *testing.T) {
	a := newAuthority(t, Config{})
	b := a.current().bundle
	root := b.Active()
	cert := certificate(t, root.CertPEM)
	if !strings.Contains(cert.Subject.CommonName, "NOT FOR PRODUCTION") {
		t.Errorf("got common name %q", cert.Subject.CommonName)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://"+TrustDomain || b.TrustDomain != TrustDomain {
		t.Errorf("got %v in trust domain %s", cert.URIs, b.TrustDomain)
	}
	if !root.Active || root.PrivateKeyType != "ec" || root.PrivateKeyBits != 256 || root.IntermediatesPEM != nil ||
		root.SerialNumber != cert.SerialNumber.Uint64() || root.SigningKeyID != cache.HexColon(cert.SubjectKeyId) ||
		len(root.ID) != 59 || root.CreateIndex == 0 || root.ModifyIndex == 0 {
		t.Errorf("got %+v", root)
	}
}
