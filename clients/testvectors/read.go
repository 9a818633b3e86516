package testvectors

import (
	"bytes"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed *.json
var files embed.FS

// Head is what every case begins with.
type Head struct {
	ID      string
	Flags   []string
	Comment string
}

// Answer is the expected decision.
type Answer struct {
	Decision string
	Reason   string
	// Rule is the id of the deciding rule, Permission the place of the
	// deciding permission from 0; nil where there is none.
	Rule       *string
	Permission *int32
}

// Request is an HTTP request; a nil one asks about the connection.
type Request struct {
	Method, Path Text
	Headers      map[string][]Text
}

// Case is one question.
type Case struct {
	Head
	Source  Text
	Request *Request
	Answer
}

// File is a file whose cases are of some kind.
type File[C any] struct {
	Schema string
	About  string
	Count  int
	Cases  []C
	Groups []Group[C]
}

// Group is a policy document and what is decided by it.
type Group[C any] struct {
	Name string
	// Intentions are the rows that the policy came from, if it came from any.
	Intentions json.RawMessage
	Policy     json.RawMessage
	Cases      []C
}

// Read reads a file of vectors. A member that C does not have is an error, so
// that no part of a case goes unnoticed.
func Read[C any](name string) (*File[C], error) {
	raw, err := files.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f := new(File[C])
	if err := strictly(raw, f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func strictly(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// Text is a string that may be given in pieces.
type Text string

// UnmarshalJSON reads a string or joins the pieces.
func (s *Text) UnmarshalJSON(raw []byte) error {
	var whole string
	if json.Unmarshal(raw, &whole) == nil {
		*s = Text(whole)
		return nil
	}
	var pieces []json.RawMessage
	if err := json.Unmarshal(raw, &pieces); err != nil {
		return err
	}
	var b strings.Builder
	for _, p := range pieces {
		if json.Unmarshal(p, &whole) == nil {
			b.WriteString(whole)
			continue
		}
		var long struct {
			Repeat string
			Times  int
			Hex    string
		}
		if err := strictly(p, &long); err != nil {
			return err
		}
		octets, err := hex.DecodeString(long.Hex)
		if err != nil {
			return err
		}
		b.WriteString(strings.Repeat(long.Repeat, long.Times) + string(octets))
	}
	*s = Text(b.String())
	return nil
}
