package store

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KeySource says where the key-encryption key comes from: a systemd credential
// if there is one, else a file that is named, else a file that the store
// generates beside its own.
type KeySource struct {
	// Off leaves records in clear: protected against damage, not against
	// whoever reads or writes the disk.
	Off bool
	// File holds the key; empty generates one.
	File string
	// CredentialsDir is where systemd puts credentials; empty means none.
	CredentialsDir string
}

// Classes of a key's location, for people to judge what a stolen disk gives.
const (
	KeyCredential = "systemd-credential"
	KeyFile       = "file"
	KeyGenerated  = "generated-file"
	KeyOff        = "off"
)

const (
	// CredentialName is the name of the systemd credential.
	CredentialName = "connectd-store-key"
	generatedName  = "connectd.key"
	// nextSuffix marks the key that a rotation is about to introduce.
	nextSuffix = ".next"
	kekBytes   = 32
	// keyFileLimit is far more than a key file ever has.
	keyFileLimit = 4096
)

// class and path say where the key is, whether or not it can be read.
func (k KeySource) locate(dir string) (class, path string) {
	if k.CredentialsDir != "" {
		path := filepath.Join(k.CredentialsDir, CredentialName)
		// A directory that cannot be looked into may well hold the key; only
		// one that certainly does not is passed over.
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return KeyCredential, path
		}
	}
	if k.File != "" {
		return KeyFile, k.File
	}
	return KeyGenerated, filepath.Join(dir, generatedName)
}

// CheckKey reads the key where one is configured, as opening would.
func (k KeySource) CheckKey() error {
	class, path := k.locate("")
	if k.Off || class == KeyGenerated {
		return nil
	}
	_, err := readKEK(path)
	return err
}

// kek is the key that encrypts keysets. Its id names it without telling it.
type kek struct {
	id   string
	aead tink.AEAD
	text []byte
}

// readKEK reads a key: 32 random bytes in base64, as `openssl rand -base64 32`
// prints them.
func readKEK(path string) (*kek, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if info.Mode().Perm()&0o027 != 0 || info.Size() > keyFileLimit {
		return nil, fmt.Errorf("%w: %s (mode %04o) must be a key file that only its owner may write and no stranger may read; run: chmod 0600 %s",
			ErrKey, path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	k, err := parseKEK(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %w", ErrKey, path, err)
	}
	return k, nil
}

func parseKEK(text []byte) (*kek, error) {
	text = bytes.TrimSpace(text)
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(raw) != kekBytes {
		return nil, errors.New("does not hold a key; one is made by: openssl rand -base64 32")
	}
	a, err := subtle.NewAESGCM(raw)
	if err != nil {
		return nil, fmt.Errorf("does not hold a usable key: %w", err)
	}
	id := sha256.Sum256(append([]byte("connectd store key id:"), raw...))
	return &kek{id: hex.EncodeToString(id[:8]), aead: a, text: text}, nil
}

func newKEK() (*kek, error) {
	raw := make([]byte, kekBytes)
	_, _ = rand.Read(raw)
	return parseKEK([]byte(base64.StdEncoding.EncodeToString(raw)))
}

// write puts the key into a file of its own, which is there whole or not at
// all.
func (k *kek) write(d *directory, name string) error {
	temporary := filepath.Join(d.path, name+newSuffix)
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(bytes.Clone(k.text), '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.rename(name+newSuffix, name)
}

// wrapped is a keyset as the file holds it: encrypted by one key.
type wrapped struct {
	Key    string `json:"key"`
	Keyset []byte `json:"keyset"`
}

// wrapPlace is authenticated with a keyset, so it is nothing else.
var wrapPlace = place(string(headerBucket), "keyset")

func newKeyset() (*keyset.Handle, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make the store's keyset: %w", err)
	}
	return h, nil
}

func (k *kek) wrap(h *keyset.Handle) (wrapped, error) {
	var buf bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), k.aead, wrapPlace); err != nil {
		return wrapped{}, fmt.Errorf("encrypt the store's keyset: %w", err)
	}
	return wrapped{k.id, buf.Bytes()}, nil
}

func (k *kek) unwrap(w wrapped) (*keyset.Handle, error) {
	h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(w.Keyset)), k.aead, wrapPlace)
	if err != nil {
		return nil, fmt.Errorf("%w: its keyset does not open", ErrDamaged)
	}
	return h, nil
}
