package entries

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/connectd/connectd/intentions"
)

const wildcard = intentions.Wildcard

// Consul's limits (agent/structs/structs.go).
const (
	maxMetaPairs = 64
	maxMetaKey   = 128
	maxMetaValue = 512
)

// serviceName reads the name of a service or the wildcard.
func (o *object) serviceName(key string) string {
	name := o.text(key)
	switch {
	case name == wildcard || intentions.ValidName(name):
	case name == "":
		o.fail(key, "name a service, or \"*\" for all", "is missing")
	case strings.Contains(name, wildcard):
		o.fail(key, `use "*" alone: a part of a name cannot be a wildcard`, fmt.Sprintf("is %q", name))
	default:
		o.fail(key, "use letters, digits, dots, dashes and underscores", fmt.Sprintf("is %q", name))
	}
	return name
}

func (o *object) meta(key string) map[string]string {
	m := o.pairs(key)
	if len(m) > maxMetaPairs {
		o.fail(key, "take some away", fmt.Sprintf("has more than %d pairs", maxMetaPairs))
	}
	for k, v := range m {
		if len(k) > maxMetaKey || len(v) > maxMetaValue {
			o.fail(key, fmt.Sprintf("keep keys to %d bytes and values to %d", maxMetaKey, maxMetaValue), "is too long")
		}
	}
	return m
}

const actionRemedy = `write "allow" or "deny"`

func (o *object) checkAction(action string) {
	if action != "allow" && action != "deny" {
		o.fail("Action", actionRemedy, fmt.Sprintf("is %q", action))
	}
}

func (o *object) checkSource(s *Source, toAll bool) {
	switch {
	case len(s.Permissions) == 0:
		o.checkAction(s.Action)
	case s.Action != "":
		o.fail("Action", "keep either Action or Permissions", "stands beside Permissions")
	case toAll:
		o.fail("Permissions", "name the destination: permissions need one", `belong to destination "*"`)
	}
	if len(s.Description) > maxMetaValue {
		o.fail("Description", fmt.Sprintf("keep it to %d bytes", maxMetaValue), "is too long")
	}
	if strings.Contains(s.Peer, wildcard) {
		o.fail("Peer", "name one peer", "has a wildcard")
	}
}

func (o *object) checkHTTP(h *HTTP) {
	paths := 0
	for _, p := range []struct{ key, value string }{
		{"PathExact", h.PathExact}, {"PathPrefix", h.PathPrefix}, {"PathRegex", h.PathRegex},
	} {
		if p.value == "" {
			continue
		}
		if paths++; paths > 1 {
			o.fail(p.key, "keep one of PathExact, PathPrefix and PathRegex", "stands beside another path condition")
		}
		if p.key == "PathRegex" {
			o.checkRegex(p.key, p.value)
		} else if !strings.HasPrefix(p.value, "/") {
			o.fail(p.key, `begin the path with "/"`, fmt.Sprintf("is %q", p.value))
		}
	}
	if paths == 0 && len(h.Header) == 0 && len(h.Methods) == 0 {
		o.d.fail(o.n.at, `give a path, a header or methods, for example PathPrefix = "/" for every request`, "%s is empty", o.path)
	}
}

func (o *object) checkRegex(key, expression string) {
	if _, err := regexp.Compile(expression); err != nil {
		o.fail(key, "write an RE2 expression", fmt.Sprintf("does not compile (%v)", err))
	}
}

var knownMethods = []string{
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE",
}

func (o *object) methods(key string) []string {
	list := o.texts(key)
	for i, m := range list {
		list[i] = strings.ToUpper(m)
		if !slices.Contains(knownMethods, list[i]) {
			o.fail(key, "use "+strings.Join(knownMethods, ", "), fmt.Sprintf("has the unknown method %q", m))
		}
		if slices.Contains(list[:i], list[i]) {
			o.fail(key, "name it once", fmt.Sprintf("has %q more than once", m))
		}
	}
	return list
}

func (o *object) checkHeader(h *Header) {
	const choices = "Present, Exact, Prefix, Suffix, Contains or Regex"
	if h.Name == "" {
		o.fail("Name", "name the header", "is missing")
	}
	conditions := 0
	for _, given := range []bool{
		h.Present, h.Exact != "", h.Prefix != "", h.Suffix != "", h.Contains != "", h.Regex != "",
	} {
		if given {
			conditions++
		}
	}
	if conditions != 1 {
		o.d.fail(o.n.at, "give exactly one of "+choices, "%s has %d conditions", o.path, conditions)
	}
	if h.IgnoreCase && (h.Present || h.Regex != "") {
		o.fail("IgnoreCase", "use it with Exact, Prefix, Suffix or Contains", "does not go with Present or Regex")
	}
	if h.Regex != "" {
		o.checkRegex("Regex", h.Regex)
	}
}
