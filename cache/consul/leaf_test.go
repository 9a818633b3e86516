package consul

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// judge returns a source that knows the authority's bundle and runs nothing.
func judge(t testing.TB, ca *authority) *Source {
	t.Helper()
	s := must(New(Config{Address: "http://127.0.0.1:8500"}))(t)
	s.bundle.Store(must(parseRoots([]byte(rootsBody(ca))))(t))
	return s
}

var web = intentions.NewService("web")

func TestParseLeafTakesGoodOnes(t *testing.T) {
	ca := newAuthority(t, "one")
	s := judge(t, ca)
	for name, edit := range map[string]func(*leafSpec){
		"plain":         func(*leafSpec) {},
		"rsa_2048":      withKey(must(rsa.GenerateKey(rand.Reader, 2048))(t)),
		"slightly_fast": func(s *leafSpec) { s.template.NotBefore = time.Now().Add(notYetValid - time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			if name == "slightly_fast" {
				now = now.Add(notYetValid)
			}
			leaf, err := s.parseLeaf(web, answer{body: []byte(ca.leaf("web", 9, edit)), index: 9}, now)
			if err != nil || leaf.Service != web || leaf.ModifyIndex != 9 {
				t.Errorf("got %+v, %v", leaf, err)
			}
		})
	}
}

func TestParseLeafRefuses(t *testing.T) {
	ca, other := newAuthority(t, "one"), newAuthority(t, "two")
	s := judge(t, ca)
	foreign := must(url.Parse("spiffe://other.consul/ns/default/dc/dc1/svc/web"))(t)
	now := time.Now()
	for _, c := range []struct {
		name string
		from *authority
		edit func(*leafSpec)
	}{
		{"other_service", ca, func(s *leafSpec) { s.template.URIs = []*url.URL{spiffeID("db")} }},
		{"other_service_throughout", ca, asService("db")},
		{"other_case", ca, asService("Web")},
		{"field_service", ca, func(s *leafSpec) { s.answer.Service = "db" }},
		{"field_service_empty", ca, func(s *leafSpec) { s.answer.Service = "" }},
		{"field_uri", ca, func(s *leafSpec) { s.answer.ServiceURI = spiffeID("db").String() }},
		{"field_uri_empty", ca, func(s *leafSpec) { s.answer.ServiceURI = "" }},
		{"other_namespace", ca, withPath("/ns/prod/dc/dc1/svc/web")},
		{"other_partition", ca, withPath("/ap/prod/ns/default/dc/dc1/svc/web")},
		{"agent_identity", ca, withPath("/agent/client/dc/dc1/id/web")},
		{"foreign_trust_domain", ca, func(s *leafSpec) {
			s.template.URIs, s.answer.ServiceURI = []*url.URL{foreign}, foreign.String()
		}},
		{"no_uri", ca, func(s *leafSpec) { s.template.URIs = nil; s.template.DNSNames = []string{"web"} }},
		{"two_uris", ca, func(s *leafSpec) { s.template.URIs = append(s.template.URIs, spiffeID("db")) }},
		{"same_uri_twice", ca, func(s *leafSpec) { s.template.URIs = append(s.template.URIs, spiffeID("web")) }},
		{"key_of_another", ca, func(s *leafSpec) { s.key = newKey(t) }},
		{"no_key", ca, func(s *leafSpec) { s.answer.PrivateKeyPEM = "-" }},
		{"certificate_as_key", ca, func(s *leafSpec) { s.answer.PrivateKeyPEM = ca.pem }},
		{"rsa_1024", ca, withKey(weakKey(t))},
		{"expired", ca, func(s *leafSpec) {
			s.template.NotBefore, s.template.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Second)
		}},
		{"not_yet_valid", ca, func(s *leafSpec) { s.template.NotBefore = now.Add(notYetValid + time.Minute) }},
		{"dates_reversed", ca, func(s *leafSpec) {
			s.template.NotBefore, s.template.NotAfter = now.Add(time.Minute), now.Add(-time.Minute)
		}},
		{"authority", ca, func(s *leafSpec) { s.template.IsCA = true }},
		{"unknown_root", other, func(*leafSpec) {}},
		{"root_as_leaf", ca, func(s *leafSpec) { s.answer.CertPEM = ca.pem }},
		{"no_certificate", ca, func(s *leafSpec) { s.answer.CertPEM = "-" }},
		{"text_after_certificate", ca, func(s *leafSpec) { s.answer.CertPEM = ca.pem + "x" }},
		{"key_in_chain", ca, func(s *leafSpec) {
			s.answer.CertPEM = encodePEM("PRIVATE KEY", []byte("secret-bytes"))
		}},
		{"no_modify_index", ca, func(s *leafSpec) { s.answer.ModifyIndex = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaf, err := s.parseLeaf(web, answer{body: []byte(c.from.leaf("web", 9, c.edit)), index: 9}, now)
			if err == nil {
				t.Fatalf("took %+v", leaf)
			}
			if strings.Contains(err.Error(), "BEGIN") || !hasKind(err, cache.FailureInvalid) {
				t.Errorf("got error %q", err)
			}
		})
	}
	t.Run("no_index_header", func(t *testing.T) {
		if _, err := s.parseLeaf(web, answer{body: []byte(ca.leaf("web", 9))}, now); err == nil {
			t.Error("a leaf without an index was taken")
		}
	})
}

func asService(name string) func(*leafSpec) {
	return func(s *leafSpec) {
		s.template.URIs = []*url.URL{spiffeID(name)}
		s.answer.Service, s.answer.ServiceURI = name, spiffeID(name).String()
	}
}

func withPath(path string) func(*leafSpec) {
	u := &url.URL{Scheme: "spiffe", Host: testDomain, Path: path}
	return func(s *leafSpec) { s.template.URIs, s.answer.ServiceURI = []*url.URL{u}, u.String() }
}

func withKey(key *rsa.PrivateKey) func(*leafSpec) {
	return func(s *leafSpec) { s.certKey, s.key = key, key }
}

// weakKey is of a size that Go itself refuses to make.
func weakKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	return must(rsa.GenerateKey(rand.Reader, 1024))(t)
}

// TestBadLeafKeepsTheGoodOne lets the agent answer a renewal with the leaf of
// another service.
func TestBadLeafKeepsTheGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.leafLife = 10 * time.Hour
		to := f.runLeaves(f.source(Config{}), leavesOf("web")...)
		pass(time.Second)
		good := to.leaf("web")
		f.answer(leafPath, func(w http.ResponseWriter, r *http.Request) {
			say(w, 200, "500", f.ca.leaf("db", 500))
		})
		pass(9*time.Hour + 55*time.Minute)
		if got := to.leaf("web"); got != good || to.kind(cache.WatchLeaf, "web") != cache.FailureInvalid {
			t.Errorf("got leaf %p, failure %v; want %p and a failure", got, to.failure(cache.WatchLeaf, "web"), good)
		}
		if got := to.failure(cache.WatchLeaf, "web").Message; !strings.HasPrefix(got, "critical: ") {
			t.Errorf("got %q at the end of the leaf's life, want it critical", got)
		}
		if n := len(f.requests(leafPath, time.Time{})); n > 100 {
			t.Errorf("asked %d times in an hour of renewal", n)
		}
		f.change(func() { f.leaves = map[string]string{} })
		f.heal()
		pass(90 * time.Second)
		if got := to.leaf("web"); got == good || to.failure(cache.WatchLeaf, "web") != nil {
			t.Errorf("the leaf did not recover: %v", to.failure(cache.WatchLeaf, "web"))
		}
	})
}

// recorded is an answer that is kept in a file.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	return must(os.ReadFile(filepath.Join("testdata", name)))(t)
}

func FuzzParseLeaf(f *testing.F) {
	// The seeds are files, because every fuzzing process has to see the same.
	s := must(New(Config{Address: "http://127.0.0.1:8500"}))(f)
	s.bundle.Store(must(parseRoots(recorded(f, "roots.json")))(f))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	good := recorded(f, "leaf.json")
	if _, err := s.parseLeaf(web, answer{body: good, index: 1}, now); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(strings.ReplaceAll(string(good), "svc/web", "svc/db")))
	for _, seed := range []string{`{}`, `null`, `[]`, `{"Service":"web"`, `{"CertPEM":5}`, `{"ModifyIndex":-1}`,
		`{"ModifyIndex":1e400}`, "\xff", `{"Service":"web","ServiceURI":"spiffe://x/ns/default/dc/d/svc/web","ModifyIndex":1,` +
			`"CertPEM":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		leaf, err := s.parseLeaf(web, answer{body: json.RawMessage(body), index: 1}, now)
		if err != nil {
			return
		}
		id, err := intentions.ParseID(leaf.SPIFFEID)
		if err != nil || id.Service != web || leaf.Service != web {
			t.Errorf("a leaf of %s was taken for %s", leaf.SPIFFEID, web)
		}
		if err := leaf.Verify(s.bundle.Load(), now); err != nil {
			t.Errorf("an untrusted leaf was taken: %v", err)
		}
	})
}
