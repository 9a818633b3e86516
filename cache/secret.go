package cache

import "fmt"

// Secret is text that no formatting verb, logger or encoder shows. It is held
// behind a pointer, because fmt calls no methods on the unexported fields of a
// struct and would print a string there.
type Secret struct{ text *string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text. Every call is a place where a secret leaves.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

const redacted = "[redacted]"

// String returns a fixed word.
func (s Secret) String() string { return redacted }

// GoString returns a fixed word.
func (s Secret) GoString() string { return redacted }

// Format writes a fixed word, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText writes a fixed word, so that no encoder shows the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
