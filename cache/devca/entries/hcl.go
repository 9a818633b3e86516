package entries

import (
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// hclReader reads the data part of HCL from tokens. Consul reads files with
// the first version of HCL, in which separators are optional; the grammar of
// the second one would refuse `{ Name = "web" Action = "allow" }`. There are no
// expressions here, as there are none in Consul.
type hclReader struct {
	file   string
	tokens hclsyntax.Tokens
}

func parseHCL(file string, src []byte) (*node, error) {
	tokens, diags := hclsyntax.LexConfig(src, file, hcl.InitialPos)
	if len(diags) > 0 {
		d, line := diags[0], 1
		if d.Subject != nil {
			line = d.Subject.Start.Line
		}
		return nil, &Error{Place{file, line}, d.Summary, "correct the HCL: " + d.Detail}
	}
	r := &hclReader{file: file, tokens: tokens}
	return r.body(hclsyntax.TokenEOF, 0)
}

// peek returns the next token that is not a separator.
func (r *hclReader) peek() hclsyntax.Token {
	for {
		switch t := r.tokens[0]; t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComment, hclsyntax.TokenComma:
			r.tokens = r.tokens[1:]
		default:
			return t
		}
	}
}

func (r *hclReader) next() hclsyntax.Token {
	t := r.peek()
	if t.Type != hclsyntax.TokenEOF {
		r.tokens = r.tokens[1:]
	}
	return t
}

func (r *hclReader) place(t hclsyntax.Token) Place { return Place{r.file, t.Range.Start.Line} }

func (r *hclReader) unexpected(t hclsyntax.Token, want string) error {
	if t.Type == hclsyntax.TokenEOF {
		return &Error{r.place(t), "the file ends too early", "close every brace, bracket and quote"}
	}
	return &Error{r.place(t), "unexpected " + strconv.Quote(string(t.Bytes)), "write " + want}
}

// body reads members up to the token that ends the object.
func (r *hclReader) body(end hclsyntax.TokenType, depth int) (*node, error) {
	n := &node{at: r.place(r.peek()), kind: kindObject}
	if depth > maxDepth {
		return nil, &Error{n.at, "the file is nested too deeply", "take levels away"}
	}
	for r.peek().Type != end {
		m, err := r.member(depth)
		if err != nil {
			return nil, err
		}
		n.attrs = append(n.attrs, m)
	}
	r.next()
	return n, nil
}

func (r *hclReader) member(depth int) (member, error) {
	t := r.next()
	m := member{at: r.place(t)}
	switch t.Type {
	case hclsyntax.TokenIdent:
		m.name = string(t.Bytes)
	case hclsyntax.TokenOQuote:
		key, err := r.quoted(t)
		if err != nil {
			return m, err
		}
		m.name = key.text
	default:
		return m, r.unexpected(t, "a key")
	}
	var err error
	switch t := r.next(); t.Type {
	case hclsyntax.TokenEqual, hclsyntax.TokenColon:
		m.value, err = r.value(depth)
	case hclsyntax.TokenOBrace:
		m.block = true
		m.value, err = r.body(hclsyntax.TokenCBrace, depth+1)
	default:
		err = r.unexpected(t, `"=" or "{" after `+m.name)
	}
	return m, err
}

func (r *hclReader) value(depth int) (*node, error) {
	t := r.next()
	n := &node{at: r.place(t)}
	switch t.Type {
	case hclsyntax.TokenOQuote:
		return r.quoted(t)
	case hclsyntax.TokenNumberLit:
		n.kind, n.text = kindNumber, string(t.Bytes)
		return n, nil
	case hclsyntax.TokenOBrace:
		return r.body(hclsyntax.TokenCBrace, depth+1)
	case hclsyntax.TokenOBrack:
		return r.list(n, depth+1)
	case hclsyntax.TokenIdent:
		if n.flag = string(t.Bytes) == "true"; n.flag || string(t.Bytes) == "false" {
			n.kind = kindFlag
			return n, nil
		}
	case hclsyntax.TokenOHeredoc:
		return nil, &Error{n.at, "here-documents are not read here", "write the text between quotes"}
	}
	return nil, r.unexpected(t, `a value: "text" in quotes, a number, true, false, a list or an object`)
}

func (r *hclReader) list(n *node, depth int) (*node, error) {
	n.kind = kindList
	if depth > maxDepth {
		return nil, &Error{n.at, "the file is nested too deeply", "take levels away"}
	}
	for r.peek().Type != hclsyntax.TokenCBrack {
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		n.list = append(n.list, v)
	}
	r.next()
	return n, nil
}

// quoted reads a text whose opening quote was taken already.
func (r *hclReader) quoted(open hclsyntax.Token) (*node, error) {
	raw := []byte{'"'}
	for {
		// The tokens of a text hold no separators to skip.
		t := r.tokens[0]
		switch t.Type {
		case hclsyntax.TokenQuotedLit:
			raw = append(raw, t.Bytes...)
		case hclsyntax.TokenCQuote:
			r.tokens = r.tokens[1:]
			text, err := strconv.Unquote(string(raw) + `"`)
			if err != nil {
				return nil, &Error{r.place(open), "a text with an unknown escape", `write a backslash as \\`}
			}
			return &node{at: r.place(open), kind: kindText, text: text}, nil
		case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			return nil, &Error{r.place(t), "a text with " + strconv.Quote(string(t.Bytes)),
				"write plain text: there are no expressions in these files"}
		default:
			return nil, r.unexpected(t, "a closing quote")
		}
		r.tokens = r.tokens[1:]
	}
}
