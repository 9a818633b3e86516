package cache

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/connectd/connectd/intentions"
)

func TestNewBundleRefuses(t *testing.T) {
	one, two := newSigner(t, "one"), newSigner(t, "two")
	leafCert, _ := one.leafText(t, intentions.NewService("web"), testDomain, time.Hour)
	with := func(change func(r *Root)) []Root {
		r := one.root()
		change(&r)
		return []Root{r, two.root()}
	}
	tests := []struct {
		name, domain, active string
		roots                []Root
		want                 string
	}{
		{"good", testDomain, one.root().ID, with(func(*Root) {}), ""},
		{"upper-case-domain", strings.ToUpper(testDomain), one.root().ID, with(func(*Root) {}), ""},
		{"no-domain", "", one.root().ID, with(func(*Root) {}), "no trust domain"},
		{"no-roots", testDomain, "", nil, "0 active roots"},
		{"no-active", testDomain, "other", with(func(*Root) {}), "0 active roots"},
		{"two-active", testDomain, one.root().ID, []Root{one.root(), one.root()}, "2 active roots"},
		{"leaf-as-root", testDomain, one.root().ID, with(func(r *Root) { r.CertPEM = leafCert }), "not a certificate authority"},
		{"two-in-one", testDomain, one.root().ID, with(func(r *Root) { r.CertPEM += two.root().CertPEM }), "2 certificates"},
		{"no-pem", testDomain, one.root().ID, with(func(r *Root) { r.CertPEM = "x" }), "not a sequence"},
		{"rest", testDomain, one.root().ID, with(func(r *Root) { r.CertPEM += "rest" }), "not a sequence"},
		{"key", testDomain, one.root().ID, with(func(r *Root) { r.CertPEM = keyPEM(t, one.key) }), "not a certificate"},
		{"damaged", testDomain, one.root().ID, with(func(r *Root) { r.CertPEM = strings.Replace(r.CertPEM, "MII", "MIJ", 1) }), "cannot be parsed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := NewBundle(tt.domain, tt.active, tt.roots)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if err == nil && (b.TrustDomain != testDomain || b.Active().ID != tt.active) {
				t.Errorf("got %s and active %s", b.TrustDomain, b.Active().ID)
			}
		})
	}
}

func TestParseLeafRefuses(t *testing.T) {
	root := newSigner(t, "root")
	web := intentions.NewService("web")
	cert, key := root.leafText(t, web, testDomain, time.Hour)
	_, otherKey := root.leafText(t, web, testDomain, time.Hour)
	ofDB, dbKey := root.leafText(t, intentions.NewService("db"), testDomain, time.Hour)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	shortKey := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(short)}))
	tests := []struct{ name, cert, key, want string }{
		{"good", cert, key, ""},
		{"chain", cert + root.root().CertPEM, key, ""},
		{"another-service", ofDB, dbKey, "got one of db"},
		{"another-key", cert, otherKey, "does not fit"},
		{"weak-key", cert, shortKey, "does not fit"},
		{"no-key", cert, "", "does not fit"},
		{"authority", root.root().CertPEM, keyPEM(t, root.key), "certificate authority"},
		{"root-first", root.root().CertPEM + cert, key, "certificate authority"},
		{"nothing", "", key, "not a sequence"},
		{"key-among-certificates", cert + key, key, "not a certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			leaf, err := ParseLeaf(web, tt.cert, NewSecret(tt.key))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if err == nil && (leaf.Service != web || leaf.SPIFFEID != sourceID("web").String() || leaf.Datacenter != "dc1") {
				t.Errorf("got %+v", leaf)
			}
		})
	}
}

func TestVerifyLooksAtTheTrustDomain(t *testing.T) {
	root := newSigner(t, "root")
	leaf := root.leaf(t, "web", time.Hour)
	const other = "99999999-2222-3333-4444-555555555555.consul"
	if err := leaf.Verify(bundleOf(t, testDomain, root), time.Now()); err != nil {
		t.Errorf("got %v, want a leaf that verifies", err)
	}
	if err := leaf.Verify(bundleOf(t, other, root), time.Now()); err == nil {
		t.Error("a leaf of another trust domain verifies")
	}
	if err := leaf.Verify(bundleOf(t, testDomain, newSigner(t, "stranger")), time.Now()); err == nil {
		t.Error("a leaf verifies under a root that did not sign it")
	}
	if err := leaf.Verify(nil, time.Now()); err == nil {
		t.Error("a leaf verifies without a bundle")
	}
}

func TestKeyPKCS8(t *testing.T) {
	leaf := newSigner(t, "root").leaf(t, "web", time.Hour)
	got, err := leaf.KeyPKCS8()
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode([]byte(got.Reveal()))
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		t.Fatalf("got a block %v and rest %q, want one PRIVATE KEY", block, rest)
	}
	if err := checkKey(leaf.CertPEM, got); err != nil {
		t.Errorf("the key in the other form: %v", err)
	}
	same := *leaf
	same.KeyPEM = got
	if again, err := same.KeyPKCS8(); err != nil || again != got {
		t.Errorf("got %v, want the same text for what is PKCS#8 already", err)
	}
}

func TestLeafLife(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := &Leaf{NotBefore: start, NotAfter: start.Add(100 * time.Hour)}
	if got := l.Spent(start.Add(90 * time.Hour)); got != 0.9 {
		t.Errorf("got %v spent, want 0.9", got)
	}
	if got := l.At(0.9); !got.Equal(start.Add(90 * time.Hour)) {
		t.Errorf("got %v, want 90 hours in", got)
	}
	if l.Expired(l.NotAfter) || !l.Expired(l.NotAfter.Add(1)) {
		t.Error("a leaf is good up to its last instant and no further")
	}
	if got := (&Leaf{}).Spent(start); got != 1 {
		t.Errorf("got %v spent of no life at all, want 1", got)
	}
}
