package consul

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

const testDomain = "11111111-2222-3333-4444-555555555555.consul"

// authority signs leaves as Consul's built-in authority does. All leaves of
// one authority share a key, because making keys is slow.
type authority struct {
	t       testing.TB
	id      string
	domain  string
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	pem     string
	leafKey *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, id string) *authority {
	t.Helper()
	a := &authority{t: t, id: id, domain: testDomain, key: newKey(t), leafKey: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Test authority " + id},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(3650 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		URIs: []*url.URL{{Scheme: "spiffe", Host: testDomain}},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key))(t)
	a.cert = must(x509.ParseCertificate(der))(t)
	a.pem = encodePEM("CERTIFICATE", der)
	return a
}

// must ends the test on an error; it reads must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a *authority) keyID() string {
	return strings.ReplaceAll(fmt.Sprintf("% x", a.cert.SubjectKeyId), " ", ":")
}

// leafSpec is what a leaf will be; tests change it to make bad ones.
type leafSpec struct {
	template *x509.Certificate
	// certKey is the key in the certificate, key the one in the answer.
	certKey, key crypto.Signer
	answer       leafAnswer
}

// spiffeID is the URI of a service of the test domain.
func spiffeID(service string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: testDomain, Path: "/ns/default/dc/dc1/svc/" + service}
}

// leaf issues a leaf for an hour around now.
func (a *authority) leaf(service string, index uint64, edits ...func(*leafSpec)) string {
	a.t.Helper()
	spec := &leafSpec{
		template: &x509.Certificate{
			SerialNumber: new(big.Int).SetUint64(index),
			NotBefore:    time.Now().Add(-time.Minute), NotAfter: time.Now().Add(59 * time.Minute),
			BasicConstraintsValid: true, URIs: []*url.URL{spiffeID(service)},
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		},
		certKey: a.leafKey, key: a.leafKey,
		answer: leafAnswer{Service: service, ServiceURI: spiffeID(service).String(), CreateIndex: index, ModifyIndex: index},
	}
	for _, edit := range edits {
		edit(spec)
	}
	der := must(x509.CreateCertificate(rand.Reader, spec.template, a.cert, spec.certKey.Public(), a.key))(a.t)
	if spec.answer.CertPEM == "" {
		spec.answer.CertPEM = encodePEM("CERTIFICATE", der)
	}
	if spec.answer.PrivateKeyPEM == "" {
		spec.answer.PrivateKeyPEM = encodePEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(spec.key))(a.t))
	}
	spec.answer.SerialNumber = fmt.Sprintf("%02x", index)
	return string(must(json.Marshal(spec.answer))(a.t))
}

// lasting gives a leaf another life.
func lasting(life time.Duration) func(*leafSpec) {
	return func(s *leafSpec) { s.template.NotAfter = s.template.NotBefore.Add(life) }
}

// rootsBody is the answer of the roots route; the first authority is active.
func rootsBody(list ...*authority) string {
	var roots []map[string]any
	for i, a := range list {
		roots = append(roots, map[string]any{
			"ID": a.id, "Name": "Root " + a.id, "SerialNumber": 7, "SigningKeyID": a.keyID(),
			"ExternalTrustDomain": strings.TrimSuffix(a.domain, ".consul"),
			"NotBefore":           a.cert.NotBefore, "NotAfter": a.cert.NotAfter, "RootCert": a.pem,
			"IntermediateCerts": nil, "Active": i == 0, "PrivateKeyType": "ec", "PrivateKeyBits": 256,
			"CreateIndex": 5, "ModifyIndex": 5,
		})
	}
	body := must(json.Marshal(map[string]any{
		"ActiveRootID": list[0].id, "TrustDomain": list[0].domain, "Roots": roots,
	}))(list[0].t)
	return string(body)
}

// row is one intention as the match route writes it.
func row(source, destination, action string) string {
	precedence := 9
	if source == "*" {
		precedence--
	}
	if destination == "*" {
		precedence -= 3
	}
	return fmt.Sprintf(`{"SourceNS":"default","SourceName":%q,"DestinationNS":"default","DestinationName":%q,`+
		`"SourceType":"consul","Action":%q,"Precedence":%d,"CreateIndex":11,"ModifyIndex":11}`,
		source, destination, action, precedence)
}

func rows(list ...string) string { return "[" + strings.Join(list, ",") + "]" }

func pemBytes(t testing.TB, text string) []byte {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("not PEM")
	}
	return block.Bytes
}
