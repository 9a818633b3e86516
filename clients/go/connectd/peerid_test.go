package connectd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/connectd/connectd/intentions"
)

// signed makes a certificate with URIs as they are written, which url.URL
// would not keep.
func signed(t testing.TB, from, to time.Time, uris ...string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var names []asn1.RawValue
	for _, uri := range uris {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)})
	}
	san, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: from, NotAfter: to,
		BasicConstraintsValid: true, IsCA: true,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificateIDReadsWhatWasSigned(t *testing.T) {
	const id = "spiffe://td.consul/ns/default/dc/dc1/svc/web"
	now := time.Now()
	for _, tt := range []struct {
		name string
		uris []string
		want bool
	}{
		{"plain", []string{id}, true},
		{"partition", []string{"spiffe://td.consul/ap/East/ns/default/dc/dc1/svc/web"}, true},
		{"scheme-in-upper-case", []string{"SPIFFE://td.consul/ns/default/dc/dc1/svc/web"}, true},
		{"empty-fragment", []string{id + "#"}, false},
		{"empty-query", []string{id + "?"}, false},
		{"fragment", []string{id + "#x"}, false},
		{"escape", []string{"spiffe://td.consul/ns/default/dc/dc1/svc/%77eb"}, false},
		{"port", []string{"spiffe://td.consul:1/ns/default/dc/dc1/svc/web"}, false},
		{"user", []string{"spiffe://x@td.consul/ns/default/dc/dc1/svc/web"}, false},
		{"more-path", []string{id + "/more"}, false},
		{"trailing-slash", []string{id + "/"}, false},
		{"two", []string{id, id}, false},
		{"none", nil, false},
		{"agent", []string{"spiffe://td.consul/agent/client/dc/dc1/id/n"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := signed(t, now.Add(-time.Hour), now.Add(time.Hour), tt.uris...)
			got, ok := certificateID(c)
			if ok != tt.want || ok && got.Service.Name != "web" {
				t.Errorf("got %+v, %t", got, ok)
			}
		})
	}
}

// TestFourFailures judges chains without a network, so that dates can be past.
func TestFourFailures(t *testing.T) {
	now := time.Now()
	const id = "spiffe://td.consul/ns/default/dc/dc1/svc/web"
	good := signed(t, now.Add(-time.Hour), now.Add(time.Hour), id)
	over := signed(t, now.Add(-time.Hour), now.Add(-time.Minute), id)
	early := signed(t, now.Add(time.Minute), now.Add(time.Hour), id)
	unknown := signed(t, now.Add(-time.Hour), now.Add(time.Hour), id)
	m := material(t)
	s := loose()
	snapshot, err := readSnapshot(encoded(t, m), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, c := range []*x509.Certificate{good, over, early} {
		pool.AddCert(c)
	}
	snapshot.bundle = &heldBundle{trustDomain: "td.consul", pool: pool}
	s.state.Store(&sourceState{snapshot: snapshot, changed: make(chan struct{})})
	web, err := intentions.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	other := web
	other.Service.Name = "db"
	for _, tt := range []struct {
		name     string
		leaf     *x509.Certificate
		expected *intentions.ID
		code     string
	}{
		{"good", good, &web, ""},
		{"wrong-server", good, &other, CodeWrongServerID},
		{"refused", good, nil, CodePeerRefused},
		{"over", over, &web, CodeLeafExpired},
		{"over-source", over, nil, CodeLeafExpired},
		{"early", early, &web, CodeUnknownRoot},
		{"unknown", unknown, &web, CodeUnknownRoot},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := (&handshake{source: s, snapshot: snapshot, expected: tt.expected}).judge([]*x509.Certificate{tt.leaf})
			if tt.code == "" && err != nil || tt.code != "" && asError(t, err).Code != tt.code {
				t.Errorf("got %v, want %s", err, tt.code)
			}
		})
	}
}
