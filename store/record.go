package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// recordPlain marks a record that carries a digest and is not encrypted. The
// first byte of every record names its form, so that other forms can follow.
const recordPlain byte = 1

// digestBytes is how much of the SHA-256 a plain record carries: enough to
// find damage, which bbolt itself does not.
const digestBytes = 16

// seal turns a value into what is written for it.
func seal(bucket, key string, value []byte) []byte {
	d := digest(bucket, key, value)
	out := make([]byte, 0, 1+digestBytes+len(value))
	out = append(out, recordPlain)
	out = append(out, d[:digestBytes]...)
	return append(out, value...)
}

// open returns the value of a record, or an error if it is not exactly what
// was written in this place.
func open(bucket, key string, record []byte) ([]byte, error) {
	if len(record) < 1+digestBytes {
		return nil, fmt.Errorf("%w: record %s/%s is too short", ErrDamaged, bucket, key)
	}
	if record[0] != recordPlain {
		return nil, fmt.Errorf("%w: record %s/%s has form %d", ErrNewerFormat, bucket, key, record[0])
	}
	value := record[1+digestBytes:]
	d := digest(bucket, key, value)
	if !bytes.Equal(d[:digestBytes], record[1:1+digestBytes]) {
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
