package reference

import (
	"regexp"
	"slices"
	"strings"
)

// Request is an HTTP request. Header names are in any letter case; the
// authority is the header host.
type Request struct {
	Method  string
	Path    string
	Headers map[string][]string
}

type permission struct {
	action  string
	path    *condition
	methods []string
	headers []header
}

type condition struct{ match, value string }

type header struct {
	condition
	name               string
	invert, ignoreCase bool
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}

// permission reads a permission; ok is false if it holds anything that cannot
// be judged.
func (o *object) permission() (p permission, ok bool) {
	p = permission{action: o.text("action"), methods: o.texts("methods")}
	ok = p.action == "allow" || p.action == "deny"
	for _, m := range p.methods {
		ok = ok && slices.Contains(methods, m)
	}
	if path, present := o.child("path"); present {
		p.path = &condition{path.text("match"), path.text("value")}
		known := slices.Contains([]string{"exact", "prefix", "regex"}, p.path.match)
		ok = ok && known && p.path.judgeable() && !path.unknown()
	}
	for _, v := range o.list("headers") {
		h, known := o.asObject("header", v).header()
		p.headers = append(p.headers, h)
		ok = ok && known
	}
	return p, ok && !o.unknown()
}

func (o *object) header() (h header, ok bool) {
	h = header{
		name: lower(o.text("name")), condition: condition{o.text("match"), o.text("value")},
		invert: o.flag("invert", false), ignoreCase: o.flag("ignore_case", false),
	}
	if h.name == "" || o.unknown() || strings.HasPrefix(h.name, ":") && h.name != ":authority" {
		return h, false
	}
	switch h.match {
	case "present":
		return h, h.value == "" && !h.ignoreCase
	case "regex":
		return h, h.judgeable() && !h.ignoreCase
	case "exact", "prefix", "suffix", "contains":
		return h, h.judgeable()
	}
	return h, false
}

// judgeable reports whether the condition has a value, and one that compiles
// where it is an expression.
func (c condition) judgeable() bool {
	if c.match == "regex" {
		if _, err := regexp.Compile(c.value); err != nil {
			return false
		}
	}
	return c.value != ""
}

func (c condition) holds(value string) bool {
	switch c.match {
	case "exact":
		return value == c.value
	case "prefix":
		return strings.HasPrefix(value, c.value)
	case "suffix":
		return strings.HasSuffix(value, c.value)
	case "contains":
		return strings.Contains(value, c.value)
	}
	// The longest match that starts first covers the whole value if any does.
	re := regexp.MustCompile(c.value)
	re.Longest()
	at := re.FindStringIndex(value)
	return at != nil && at[0] == 0 && at[1] == len(value)
}

// verdict is what permissions say of one reading of a path.
type verdict struct {
	// action is "allow" or "deny", or "" if a header is beyond reading.
	action     string
	permission int
}

// judge returns the action and the place of the first permission that
// matches, or the fallback and -1.
func judge(list []permission, r Request, path string, n Normalization, fallback string) verdict {
	for i, p := range list {
		if p.path != nil && !p.path.holds(path) {
			continue
		}
		if len(p.methods) > 0 && !slices.Contains(p.methods, r.Method) {
			continue
		}
		matched, legible := headersHold(p.headers, r, n)
		if !legible {
			return verdict{"", -1}
		}
		if matched {
			return verdict{p.action, i}
		}
	}
	return verdict{fallback, -1}
}

// headersHold looks at the conditions in order and stops at the first that
// does not hold, or whose header is beyond reading.
func headersHold(list []header, r Request, n Normalization) (hold, legible bool) {
	for _, h := range list {
		value, present := r.header(h.name, n)
		if present && (len(value) > 8192 || strings.ContainsFunc(value, isControl)) {
			return false, false
		}
		if !h.matches(value, present) {
			return false, true
		}
	}
	return true, true
}

func (h header) matches(value string, present bool) bool {
	if h.match == "present" {
		return present != h.invert
	}
	c := h.condition
	if h.ignoreCase {
		value, c.value = lower(value), lower(c.value)
	}
	return present && c.holds(value) != h.invert
}

// header joins the values of a header with commas.
func (r Request) header(name string, n Normalization) (value string, present bool) {
	if n.Underscores == "drop" && strings.Contains(name, "_") {
		return "", false
	}
	if name == ":authority" {
		name = "host"
	}
	var values []string
	for given, list := range r.Headers {
		if lower(given) == name {
			values = append(values, list...)
		}
	}
	value = strings.Join(values, ",")
	if name == "host" && value == "" {
		return "", false
	}
	return value, len(values) > 0
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// lower folds the letters of ASCII only.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
