package socketapi

import "bytes"

// Limits of a request's head.
const (
	maxHeadBytes = 8 << 10
	maxFields    = 64
)

// framing says how the body after a head ends.
type framing struct {
	chunked bool
	length  int64
}

// headEnd looks for the end of a head behind what was looked at before. A line
// that does not end in CR LF is refused as soon as it is seen, because two
// readers would disagree on where it ends.
func headEnd(b []byte, from int) (end int, problem string) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return -1, ""
		}
		i += from
		if i == 0 || b[i-1] != '\r' {
			return -1, "a line of the head does not end in CR LF"
		}
		if i == 1 {
			return -1, "the request begins with an empty line"
		}
		if i >= 3 && b[i-2] == '\n' {
			return i + 1, ""
		}
		from = i + 1
	}
}

// judgeHead reads a whole head, and says what no honest client sends.
func judgeHead(head []byte) (f framing, problem string) {
	line, rest, _ := bytes.Cut(head[:len(head)-2], []byte("\r\n"))
	if problem := judgeRequestLine(line); problem != "" {
		return f, problem
	}
	h := fields{}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if problem := h.add(line); problem != "" {
			return f, problem
		}
	}
	return h.framing()
}

// judgeRequestLine wants "METHOD /path HTTP/1.1".
func judgeRequestLine(line []byte) string {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	switch {
	case !ok || !ok2 || len(method) == 0 || len(method) > 16:
		return "the request line is not of the form METHOD /path HTTP/1.1"
	case string(version) != "HTTP/1.1":
		return "the protocol is not HTTP/1.1"
	case len(target) == 0 || target[0] != '/':
		return "the target is not a path"
	}
	for _, c := range method {
		if c < 'A' || c > 'Z' {
			return "the method is not in capital letters"
		}
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return "the target has bytes that do not belong into one"
		}
	}
	return ""
}

// fields collects what decides how a request is read.
type fields struct {
	count, hosts, lengths, encodings int

	length  int64
	chunked bool
}

// add takes one line of the head.
func (h *fields) add(line []byte) string {
	if h.count++; h.count > maxFields {
		return "the head has more than 64 fields"
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !isToken(name) {
		return "a line of the head is not a field"
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return "a field has control bytes"
		}
	}
	value = bytes.Trim(value, " \t")
	switch {
	case sameName(name, "host"):
		h.hosts++
	case sameName(name, "content-length"):
		h.lengths++
		return h.setLength(value)
	case sameName(name, "transfer-encoding"):
		h.encodings++
		h.chunked = sameName(value, "chunked")
	case sameName(name, "content-encoding") && !sameName(value, "identity"):
		return "bodies are not taken in other encodings"
	case sameName(name, "trailer"):
		return "trailers are not taken"
	}
	return ""
}

// setLength reads a number without sign or space.
func (h *fields) setLength(value []byte) string {
	if len(value) == 0 || len(value) > 15 {
		return "Content-Length is not a length"
	}
	h.length = 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return "Content-Length is not a length"
		}
		h.length = h.length*10 + int64(c-'0')
	}
	return ""
}

// framing decides how the body ends, where there is one way to see it.
func (h *fields) framing() (framing, string) {
	switch {
	case h.hosts == 0:
		return framing{}, "Host is missing"
	case h.hosts > 1:
		return framing{}, "Host is there twice"
	case h.encodings > 0 && h.lengths > 0:
		return framing{}, "Transfer-Encoding and Content-Length contradict each other"
	case h.lengths > 1:
		return framing{}, "Content-Length is there twice"
	case h.encodings > 1 || h.encodings == 1 && !h.chunked:
		return framing{}, "Transfer-Encoding is not chunked"
	}
	return framing{chunked: h.chunked, length: h.length}, ""
}

// sameName compares without regard to the case of ASCII letters; name is in
// small ones.
func sameName(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// isToken reports whether a field's name has only the characters of one.
func isToken(b []byte) bool {
	for _, c := range b {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) < 0 {
			return false
		}
	}
	return len(b) > 0
}

// chunkSize reads a line with a chunk's size and nothing else. More digits
// than a body can have are refused before they are a number.
func chunkSize(line []byte) (size int64, ok bool) {
	if len(line) == 0 || len(line) > 8 {
		return 0, false
	}
	for _, c := range line {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		size = size<<4 | int64(c)
	}
	return size, true
}
