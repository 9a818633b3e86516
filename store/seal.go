package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// The first byte of every record names its form, so that other forms can
// follow.
const (
	// formPlain carries a digest and is not encrypted.
	formPlain byte = 1
	// formSealed is authenticated and encrypted.
	formSealed byte = 2
)

// schema is the meaning of the place of a record. It is part of what a seal
// authenticates, so a record never passes for one of another schema.
const schema = 1

// tagBytes is the length of what tells two records apart: the authentication
// tag of a sealed one, as much of the digest of a plain one.
const tagBytes = 16

type tag [tagBytes]byte

// A sealer turns a value into the record that is written for it and back. What
// it opens is exactly what was sealed for that place, or an error. It is safe
// for concurrent use.
type sealer interface {
	seal(bucket, key string, value []byte) ([]byte, error)
	open(bucket, key string, record []byte) ([]byte, error)
}

// plain finds damage, which bbolt itself does not, and hides nothing.
type plain struct{}

func (plain) seal(bucket, key string, value []byte) ([]byte, error) {
	d := digest(bucket, key, value)
	out := make([]byte, 0, 1+tagBytes+len(value))
	out = append(out, formPlain)
	out = append(out, d[:tagBytes]...)
	return append(out, value...), nil
}

func (plain) open(bucket, key string, record []byte) ([]byte, error) {
	if len(record) < 1+tagBytes || record[0] != formPlain {
		return nil, fmt.Errorf("%w: record %s/%s is not a plain one", ErrDamaged, bucket, key)
	}
	value := record[1+tagBytes:]
	d := digest(bucket, key, value)
	if !bytes.Equal(d[:tagBytes], record[1:1+tagBytes]) {
		return nil, fmt.Errorf("%w: record %s/%s has changed", ErrDamaged, bucket, key)
	}
	return bytes.Clone(value), nil
}

// digest covers the place as well as the value, so that a record that was
// moved is found too.
func digest(bucket, key string, value []byte) [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%d/%s/%d/%s/", len(bucket), bucket, len(key), key)
	h.Write(value)
	return [sha256.Size]byte(h.Sum(nil))
}

// sealed encrypts with a keyset of its own file.
type sealed struct{ aead tink.AEAD }

func newSealed(h *keyset.Handle) (sealer, error) {
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("use the store's keyset: %w", err)
	}
	return sealed{a}, nil
}

func (s sealed) seal(bucket, key string, value []byte) ([]byte, error) {
	ciphertext, err := s.aead.Encrypt(value, place(bucket, key))
	if err != nil {
		return nil, fmt.Errorf("seal record %s/%s: %w", bucket, key, err)
	}
	return append([]byte{formSealed}, ciphertext...), nil
}

func (s sealed) open(bucket, key string, record []byte) ([]byte, error) {
	if len(record) < 1+tagBytes || record[0] != formSealed {
		return nil, fmt.Errorf("%w: record %s/%s is not a sealed one", ErrDamaged, bucket, key)
	}
	value, err := s.aead.Decrypt(record[1:], place(bucket, key))
	if err != nil {
		return nil, fmt.Errorf("%w: record %s/%s does not open", ErrDamaged, bucket, key)
	}
	if value == nil {
		// An empty value is there; nil would read as a deletion.
		value = []byte{}
	}
	return value, nil
}

// place is what a seal authenticates beside the value.
func place(bucket, key string) []byte {
	out := []byte("connectd store")
	out = binary.BigEndian.AppendUint32(out, schema)
	out = binary.BigEndian.AppendUint32(out, uint32(len(bucket)))
	out = append(out, bucket...)
	return append(out, key...)
}

// tagOf tells this record from every other that was ever written for its
// place: seals are randomized.
func tagOf(record []byte) (tag, error) {
	switch {
	case len(record) < 1+tagBytes:
	case record[0] == formPlain:
		return tag(record[1 : 1+tagBytes]), nil
	case record[0] == formSealed:
		return tag(record[len(record)-tagBytes:]), nil
	}
	return tag{}, fmt.Errorf("%w: a record has no known form", ErrDamaged)
}
