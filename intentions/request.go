package intentions

import "strings"

// Request is an HTTP request as far as permissions look at it.
type Request struct {
	Method string
	// Path is the request target as it arrived, query included, in origin form.
	Path string
	// Host is the authority.
	Host string
	// Headers holds the values of each header, in the order of arrival. Names
	// are in lower case or in the canonical form of net/http.
	Headers map[string][]string
}

// Limits on what is judged; anything larger is denied.
const (
	maxPathBytes   = 8 << 10
	maxHeaderBytes = 8 << 10
)

// header is the value of one header of a request.
type header struct {
	value   string
	present bool
	// bad is set for a value that no two readers need to understand alike.
	bad bool
}

// header returns the values under a name, joined with commas as Envoy joins
// them. Both spellings of the name are looked at, and what is under both is
// joined too.
func (r *Request) header(n *headerName) header {
	if n.authority {
		return checked(header{value: r.Host, present: r.Host != ""})
	}
	values := r.Headers[n.lower]
	if n.canonical != n.lower {
		if more := r.Headers[n.canonical]; len(values) == 0 {
			values = more
		} else if len(more) > 0 {
			values = append(append([]string{}, values...), more...)
		}
	}
	switch len(values) {
	case 0:
		return header{}
	case 1:
		return checked(header{value: values[0], present: true})
	}
	return checked(header{value: strings.Join(values, ","), present: true})
}

func checked(h header) header {
	h.bad = len(h.value) > maxHeaderBytes
	for i := range len(h.value) {
		if c := h.value[i]; c < ' ' && c != '\t' || c == 0x7f {
			h.bad = true
		}
	}
	return h
}

// headerName is a header's name in the spellings under which it is looked up.
type headerName struct {
	lower, canonical string
	// authority is set for host, which is not among the headers.
	authority bool
	// underscore is set where the name has one, which a proxy may drop or
	// reject.
	underscore bool
}

func newHeaderName(name string) headerName {
	lower := asciiLower(name)
	return headerName{
		lower: lower, canonical: canonicalName(lower),
		authority:  lower == "host" || lower == ":authority",
		underscore: strings.Contains(lower, "_"),
	}
}

// canonicalName writes a name in lower case as net/http keeps it: the first
// letter and each one behind a dash in upper case.
func canonicalName(lower string) string {
	b := []byte(lower)
	upper := true
	for i, c := range b {
		if upper && 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
		upper = c == '-'
	}
	return string(b)
}

// hasUnderscoreHeader reports whether any header's name has an underscore.
func (r *Request) hasUnderscoreHeader() bool {
	for name := range r.Headers {
		if strings.Contains(name, "_") {
			return true
		}
	}
	return false
}

// methodBit gives each of the nine standard methods a bit; any other method
// has none and matches no permission that names methods.
func methodBit(method string) uint16 {
	switch method {
	case "GET":
		return 1 << 0
	case "HEAD":
		return 1 << 1
	case "POST":
		return 1 << 2
	case "PUT":
		return 1 << 3
	case "PATCH":
		return 1 << 4
	case "DELETE":
		return 1 << 5
	case "CONNECT":
		return 1 << 6
	case "OPTIONS":
		return 1 << 7
	case "TRACE":
		return 1 << 8
	}
	return 0
}

// validMethod reports whether a method is a token of RFC 9110.
func validMethod(method string) bool {
	if method == "" || len(method) > 32 {
		return false
	}
	for i := range len(method) {
		c := method[i]
		if !isNameByte(c) && !strings.ContainsRune("!#$%&'*+^`|~", rune(c)) {
			return false
		}
	}
	return true
}
