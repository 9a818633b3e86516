package connectd

import "fmt"

// PrivateKey is the key of a leaf, as a PKCS#8 PEM. No formatting verb, logger
// or encoder shows it; only Reveal does.
type PrivateKey struct {
	// text is a pointer because fmt prints the fields of a struct that hides
	// this one in an unexported field, without calling any method.
	text *string
}

const redacted = "[redacted]"

// Reveal returns the PEM. Every call is a place where the key leaves.
func (k PrivateKey) Reveal() string {
	if k.text == nil {
		return ""
	}
	return *k.text
}

// String returns a fixed word.
func (k PrivateKey) String() string { return redacted }

// GoString returns a fixed word.
func (k PrivateKey) GoString() string { return redacted }

// Format writes a fixed word, whatever the verb.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText returns a fixed word, for every encoder that asks for text.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns a fixed word.
func (k PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// UnmarshalText takes the PEM.
func (k *PrivateKey) UnmarshalText(text []byte) error {
	s := string(text)
	k.text = &s
	return nil
}
