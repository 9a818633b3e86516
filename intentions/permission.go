package intentions

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Permission is the L7 part of a rule: what a request must look like for the
// action to apply. Everything given must hold.
type Permission struct {
	Action  string        `json:"action"`
	Path    *PathMatch    `json:"path,omitempty"`
	Methods []string      `json:"methods,omitempty"`
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// PathMatch is a condition on the path without query and fragment. Match is
// exact, prefix or regex (RE2, the whole path).
type PathMatch struct {
	Match string `json:"match"`
	Value string `json:"value"`
}

// HeaderMatch is a condition on one header. Match is present, exact, prefix,
// suffix, contains or regex (RE2, the whole value). Name is in lower case.
type HeaderMatch struct {
	Name       string `json:"name"`
	Match      string `json:"match"`
	Value      string `json:"value,omitempty"`
	Invert     bool   `json:"invert,omitempty"`
	IgnoreCase bool   `json:"ignore_case,omitempty"`
}

// Words of the match members.
const (
	MatchExact    = "exact"
	MatchPrefix   = "prefix"
	MatchSuffix   = "suffix"
	MatchContains = "contains"
	MatchRegex    = "regex"
	MatchPresent  = "present"
)

// consulPermission is a permission as Consul writes it.
type consulPermission struct {
	Action string
	HTTP   *consulHTTP
	JWT    json.RawMessage
}

type consulHTTP struct {
	PathExact  string
	PathPrefix string
	PathRegex  string
	Header     []consulHeader
	Methods    []string
}

type consulHeader struct {
	Name       string
	Present    bool
	Exact      string
	Prefix     string
	Suffix     string
	Contains   string
	Regex      string
	Invert     bool
	IgnoreCase bool
}

// parsePermission translates one permission of Consul's. An error means that
// it holds something that this version cannot judge.
func parsePermission(raw []byte) (Permission, error) {
	var c consulPermission
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Permission{}, err
	}
	if len(c.JWT) > 0 && !bytes.Equal(c.JWT, []byte("null")) {
		return Permission{}, fmt.Errorf("JWT requirements are not supported")
	}
	if c.Action != "allow" && c.Action != "deny" {
		return Permission{}, fmt.Errorf("unknown action %q", c.Action)
	}
	if c.HTTP == nil {
		return Permission{}, fmt.Errorf("a permission without HTTP conditions")
	}
	p := Permission{Action: c.Action, Methods: c.HTTP.Methods}
	path, err := c.HTTP.path()
	if err != nil {
		return Permission{}, err
	}
	p.Path = path
	for _, h := range c.HTTP.Header {
		m, err := h.match()
		if err != nil {
			return Permission{}, err
		}
		p.Headers = append(p.Headers, m)
	}
	return p, nil
}

func (h *consulHTTP) path() (*PathMatch, error) {
	var found []PathMatch
	for _, m := range []PathMatch{
		{MatchExact, h.PathExact}, {MatchPrefix, h.PathPrefix}, {MatchRegex, h.PathRegex},
	} {
		if m.Value != "" {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return &found[0], nil
	}
	return nil, fmt.Errorf("more than one path condition")
}

func (h *consulHeader) match() (HeaderMatch, error) {
	m := HeaderMatch{Name: asciiLower(h.Name), Invert: h.Invert, IgnoreCase: h.IgnoreCase}
	if m.Name == "" {
		return m, fmt.Errorf("a header condition without a name")
	}
	conditions := 0
	for _, c := range []struct{ match, value string }{
		{MatchExact, h.Exact}, {MatchPrefix, h.Prefix}, {MatchSuffix, h.Suffix},
		{MatchContains, h.Contains}, {MatchRegex, h.Regex},
	} {
		if c.value != "" {
			m.Match, m.Value = c.match, c.value
			conditions++
		}
	}
	if h.Present {
		m.Match = MatchPresent
		conditions++
	}
	if conditions != 1 {
		return m, fmt.Errorf("header %q has %d conditions, not one", m.Name, conditions)
	}
	return m, nil
}

// usesRegex reports whether judging the permission takes RE2.
func (p *Permission) usesRegex() bool {
	if p.Path != nil && p.Path.Match == MatchRegex {
		return true
	}
	for i := range p.Headers {
		if p.Headers[i].Match == MatchRegex {
			return true
		}
	}
	return false
}
