package intentions

import (
	"regexp"
	"strings"
)

// permission is a compiled Permission.
type permission struct {
	allow   bool
	path    *pathMatch
	methods uint16
	// anyMethod is set where the permission names none.
	anyMethod bool
	headers   []headerMatch
}

type pathMatch struct {
	match string
	value string
	regex *regexp.Regexp
}

type headerMatch struct {
	HeaderMatch
	name  headerName
	regex *regexp.Regexp
	// drop is set where the mesh drops headers of such a name.
	drop bool
}

// compilePermissions compiles the permissions of a rule. It returns false if
// one holds something that cannot be judged here.
func compilePermissions(list []Permission, n *Normalization) ([]permission, bool) {
	out := make([]permission, len(list))
	for i := range list {
		if !out[i].compile(&list[i], n) {
			return nil, false
		}
	}
	return out, true
}

func (p *permission) compile(from *Permission, n *Normalization) bool {
	if from.Action != "allow" && from.Action != "deny" {
		return false
	}
	p.allow = from.Action == "allow"
	p.anyMethod = len(from.Methods) == 0
	for _, m := range from.Methods {
		bit := methodBit(m)
		if bit == 0 {
			return false
		}
		p.methods |= bit
	}
	if from.Path != nil {
		p.path = &pathMatch{match: from.Path.Match, value: from.Path.Value}
		if !p.path.compile() {
			return false
		}
	}
	p.headers = make([]headerMatch, len(from.Headers))
	for i := range from.Headers {
		if !p.headers[i].compile(&from.Headers[i], n) {
			return false
		}
	}
	return true
}

func (m *pathMatch) compile() bool {
	// A condition that lost its value would match every path.
	if m.value == "" {
		return false
	}
	switch m.match {
	case MatchExact, MatchPrefix:
		return true
	case MatchRegex:
		m.regex = wholeValue(m.value)
		return m.regex != nil
	}
	return false
}

func (m *headerMatch) compile(from *HeaderMatch, n *Normalization) bool {
	m.HeaderMatch, m.name = *from, newHeaderName(from.Name)
	if from.Name == "" || strings.HasPrefix(from.Name, ":") && !m.name.authority {
		return false
	}
	// Presence needs no value; any other condition without one has lost it.
	if (from.Match == MatchPresent) != (from.Value == "") {
		return false
	}
	m.drop = m.name.underscore && n.Underscores == UnderscoresDrop
	switch m.Match {
	case MatchExact, MatchPrefix, MatchSuffix, MatchContains:
		if m.IgnoreCase {
			m.Value = asciiLower(m.Value)
		}
		return true
	case MatchPresent:
		return !m.IgnoreCase
	case MatchRegex:
		m.regex = wholeValue(m.Value)
		return m.regex != nil && !m.IgnoreCase
	}
	return false
}

// wholeValue compiles an expression that must match a value from end to end,
// or returns nil.
func wholeValue(expression string) *regexp.Regexp {
	// The expression is compiled alone first: "a)(b" must not become valid by
	// what is put around it.
	if _, err := regexp.Compile(expression); err != nil {
		return nil
	}
	re, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return nil
	}
	return re
}

// judgment is what permissions say of a request.
type judgment struct {
	// number is that of the permission that decided, from 1, or 0 if none
	// matched.
	number int32
	allow  bool
	// bad is set where a header that had to be looked at is beyond reading.
	bad bool
}

// judge returns the first permission that matches. The path is normalized.
func judge(list []permission, r *Request, path string) judgment {
	method := methodBit(r.Method)
	for i := range list {
		p := &list[i]
		if p.path != nil && !p.path.matches(path) || !p.anyMethod && p.methods&method == 0 {
			continue
		}
		matched, bad := p.headersMatch(r)
		if bad {
			return judgment{bad: true}
		}
		if matched {
			return judgment{number: int32(i + 1), allow: p.allow}
		}
	}
	return judgment{}
}

func (m *pathMatch) matches(path string) bool {
	switch m.match {
	case MatchExact:
		return path == m.value
	case MatchPrefix:
		return strings.HasPrefix(path, m.value)
	}
	return m.regex.MatchString(path)
}

func (p *permission) headersMatch(r *Request) (matched, bad bool) {
	for i := range p.headers {
		m := &p.headers[i]
		h := header{}
		if !m.drop {
			h = r.header(&m.name)
		}
		if h.bad {
			return false, true
		}
		if !m.matches(h) {
			return false, false
		}
	}
	return true, false
}

// matches follows Envoy: a condition on a value never holds for an absent
// header, inverted or not.
func (m *headerMatch) matches(h header) bool {
	if m.Match == MatchPresent {
		return h.present != m.Invert
	}
	return h.present && m.valueMatches(h.value) != m.Invert
}

func (m *headerMatch) valueMatches(value string) bool {
	if m.Match == MatchRegex {
		return m.regex.MatchString(value)
	}
	if m.IgnoreCase {
		value = asciiLower(value)
	}
	switch m.Match {
	case MatchExact:
		return value == m.Value
	case MatchPrefix:
		return strings.HasPrefix(value, m.Value)
	case MatchSuffix:
		return strings.HasSuffix(value, m.Value)
	}
	return strings.Contains(value, m.Value)
}

// asciiLower folds letters as Envoy does; text without upper case is returned
// as it is.
func asciiLower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			return foldASCII(s)
		}
	}
	return s
}

func foldASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c - 'A' + 'a'
		}
	}
	return string(b)
}
