package entries

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// jsonReader reads JSON into nodes, keeping the lines.
type jsonReader struct {
	file    string
	src     []byte
	decoder *json.Decoder
}

func parseJSON(file string, src []byte) (*node, error) {
	r := &jsonReader{file: file, src: src, decoder: json.NewDecoder(bytes.NewReader(src))}
	r.decoder.UseNumber()
	n, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, &Error{r.place(), "text after the end of the JSON value", "keep one value in a file"}
	}
	return n, nil
}

// place is the line of the token read last.
func (r *jsonReader) place() Place {
	return Place{r.file, 1 + bytes.Count(r.src[:r.decoder.InputOffset()], []byte{'\n'})}
}

func (r *jsonReader) token() (json.Token, error) {
	t, err := r.decoder.Token()
	if err != nil {
		return nil, r.syntax(err)
	}
	return t, nil
}

func (r *jsonReader) syntax(err error) error {
	at := r.place()
	var s *json.SyntaxError
	if errors.As(err, &s) {
		end := min(max(s.Offset, 0), int64(len(r.src)))
		at.Line = 1 + bytes.Count(r.src[:end], []byte{'\n'})
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		at.Line = 1 + bytes.Count(r.src, []byte{'\n'})
		return &Error{at, "the file ends too early", "close every brace, bracket and quote"}
	}
	return &Error{at, "not valid JSON (" + err.Error() + ")", "correct the JSON"}
}

func (r *jsonReader) value(depth int) (*node, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	n := &node{at: r.place()}
	if depth > maxDepth {
		return nil, &Error{n.at, "the file is nested too deeply", "take levels away"}
	}
	switch v := t.(type) {
	case string:
		n.kind, n.text = kindText, v
	case json.Number:
		n.kind, n.text = kindNumber, v.String()
	case bool:
		n.kind, n.flag = kindFlag, v
	case json.Delim:
		if v == '[' {
			return r.list(n, depth)
		}
		return r.object(n, depth)
	}
	return n, nil
}

func (r *jsonReader) list(n *node, depth int) (*node, error) {
	n.kind = kindList
	for r.decoder.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.list = append(n.list, v)
	}
	_, err := r.token()
	return n, err
}

func (r *jsonReader) object(n *node, depth int) (*node, error) {
	n.kind = kindObject
	for r.decoder.More() {
		key, err := r.token()
		if err != nil {
			return nil, err
		}
		m := member{name: key.(string), at: r.place()}
		if m.value, err = r.value(depth + 1); err != nil {
			return nil, err
		}
		n.attrs = append(n.attrs, m)
	}
	_, err := r.token()
	return n, err
}
