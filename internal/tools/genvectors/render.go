package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// vectorFile is one file of vectors: cases, or groups that share a policy.
type vectorFile struct {
	schema, about string
	cases         []any
	groups        []*group
}

// group is a policy and the cases that are decided by it.
type group struct {
	Name string
	// Intentions are the rows that the policy came from, if it came from any.
	Intentions json.RawMessage
	Policy     json.RawMessage
	Cases      []any
}

func (f *vectorFile) count() int {
	n := len(f.cases)
	for _, g := range f.groups {
		n += len(g.Cases)
	}
	return n
}

// render writes a case a line, so that a change shows as the lines it touches.
func (f *vectorFile) render(b *bytes.Buffer) error {
	fmt.Fprintf(b, "{\n\"schema\": %q,\n\"about\": %s,\n\"count\": %d,\n", f.schema, compact(f.about), f.count())
	if f.groups == nil {
		b.WriteString("\"cases\": [\n")
		renderLines(b, f.cases)
		b.WriteString("]\n}\n")
		return nil
	}
	b.WriteString("\"groups\": [\n")
	for i, g := range f.groups {
		if len(g.Cases) == 0 {
			return fmt.Errorf("group %s has no cases", g.Name)
		}
		fmt.Fprintf(b, "{\"name\":%q,\n", g.Name)
		if g.Intentions != nil {
			fmt.Fprintf(b, "\"intentions\":%s,\n", g.Intentions)
		}
		fmt.Fprintf(b, "\"policy\":%s,\n\"cases\":[\n", g.Policy)
		renderLines(b, g.Cases)
		b.WriteString("]}" + comma(i, len(f.groups)))
	}
	b.WriteString("]\n}\n")
	return nil
}

func renderLines(b *bytes.Buffer, cases []any) {
	for i, c := range cases {
		b.Write(compact(c))
		b.WriteString(comma(i, len(cases)))
	}
}

func comma(i, n int) string {
	if i == n-1 {
		return "\n"
	}
	return ",\n"
}

// compact encodes a value on one line. It panics on what cannot be encoded,
// which only a mistake in this program can bring.
func compact(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// text is a string that is written in full, or in pieces where it is very
// long or not UTF-8.
type text []piece

type piece struct {
	Repeat string `json:"repeat,omitempty"`
	Times  int    `json:"times,omitempty"`
	Hex    string `json:"hex,omitempty"`
	plain  string
}

func plain(s string) text {
	if utf8.ValidString(s) {
		return text{{plain: s}}
	}
	return text{{Hex: hex.EncodeToString([]byte(s))}}
}

func repeat(s string, times int) text {
	if times == 0 {
		return nil
	}
	return text{{Repeat: s, Times: times}}
}

// join puts texts behind each other.
func join(parts ...text) text { return slices.Concat(parts...) }

// String returns the text in full.
func (t text) String() string {
	var b strings.Builder
	for _, p := range t {
		raw, err := hex.DecodeString(p.Hex)
		if err != nil {
			panic(err)
		}
		b.WriteString(p.plain + strings.Repeat(p.Repeat, p.Times) + string(raw))
	}
	return b.String()
}

// MarshalJSON writes a plain text as a string and any other as its pieces.
func (t text) MarshalJSON() ([]byte, error) {
	if len(t) == 1 && t[0].Repeat == "" && t[0].Hex == "" {
		return compact(t[0].plain), nil
	}
	list := make([]any, len(t))
	for i, p := range t {
		list[i] = p
		if p.Repeat == "" && p.Hex == "" {
			list[i] = p.plain
		}
	}
	return compact(list), nil
}
