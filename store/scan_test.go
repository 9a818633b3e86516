package store

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// window is how many bytes in a row count as a part of a key.
const window = 12

// TestNoKeyInClear updates leaves again and again and looks for any part of
// any of their keys in everything that lies in the directory, pages that are
// free again included.
func TestNoKeyInClear(t *testing.T) {
	updates := trials(10000, 400)
	dir := privateTempDir(t)
	s := mustOpen(t, dir)
	secrets := map[[window]byte]bool{}
	for i := range updates {
		value := newLeaf(t, secrets)
		mustCommitOnly(t, s, batch{"leaf": {"default/default/s" + strconv.Itoa(i%100): value}})
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if err := s.Copy(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	scanned, hits := scan(t, dir, secrets)
	t.Logf("%d updates, %d windows of %d bytes looked for in %d bytes of files: %d found", updates, len(secrets), window, scanned, hits)
	if hits > 0 {
		t.Error("a part of a private key is in clear")
	}
	// The scan finds what is there to be found.
	clear := inClear(privateTempDir(t))
	plainStore := mustOpenWith(t, clear)
	mustCommit(t, plainStore, batch{"leaf": {"web": newLeaf(t, secrets)}})
	mustClose(t, plainStore)
	if _, hits := scan(t, clear.Dir, secrets); hits == 0 {
		t.Error("the scan does not find a key that is in clear")
	}
}

func mustCommitOnly(t testing.TB, s *Store, b batch) {
	t.Helper()
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
}

// newLeaf makes a record like cache's and remembers every window of its key,
// as the bytes of the number, in DER, in PEM and in hexadecimal.
func newLeaf(t testing.TB, secrets map[[window]byte]bool) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	number, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	// The first bytes of an encoding are the same for all keys, and public.
	encoded := []byte(base64.StdEncoding.EncodeToString(der))
	for _, form := range [][]byte{number, encoded[48:96], []byte(hex.EncodeToString(number)), text[:window]} {
		for at := 0; at+window <= len(form); at += window {
			secrets[[window]byte(form[at:])] = true
		}
	}
	value, err := json.Marshal(map[string]string{"KeyPEM": string(text), "CertPEM": string(bytes.Repeat([]byte("c"), 900))})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// scan looks at every offset of every file.
func scan(t testing.TB, dir string, secrets map[[window]byte]bool) (scanned, hits int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		scanned += len(raw)
		for at := 0; at+window <= len(raw); at++ {
			if secrets[[window]byte(raw[at:])] {
				hits++
			}
		}
	}
	return scanned, hits
}
