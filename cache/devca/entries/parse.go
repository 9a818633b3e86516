package entries

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Entries is what one file, or several, define.
type Entries struct {
	Intentions []Entry
	Services   []Service
}

// MaxBytes is the largest file that is read.
const MaxBytes = 1 << 20

// ParseFile reads one file. JSON is recognised by its first byte or the end of
// the name; everything else is HCL. The file holds one service-intentions
// entry, or any number of service definitions and, as in Consul's own
// configuration, config_entries { bootstrap = [ ... ] }. A refusal is an *Error.
func ParseFile(name string, src []byte) (Entries, error) {
	if len(src) > MaxBytes {
		return Entries{}, &Error{Place{name, 1}, "the file is too large", fmt.Sprintf("keep it under %d bytes", MaxBytes)}
	}
	parse := parseHCL
	if isJSON(name, src) {
		parse = parseJSON
	}
	n, err := parse(name, src)
	if err != nil {
		return Entries{}, err
	}
	o := &object{d: &decoder{}, n: n}
	if n.kind != kindObject {
		o.d.fail(n.at, "write one object in braces", "the file holds %s", n.kind)
	}
	out := o.entries()
	if o.d.err != nil {
		return Entries{}, o.d.err
	}
	return out, nil
}

func isJSON(name string, src []byte) bool {
	return strings.HasSuffix(name, ".json") || bytes.HasPrefix(bytes.TrimSpace(src), []byte("{"))
}

func (o *object) entries() Entries {
	var out Entries
	if o.has("Kind") {
		out.Intentions = []Entry{o.entry()}
		return out
	}
	for _, key := range []string{"Service", "Services"} {
		for _, s := range o.objects(key) {
			out.Services = append(out.Services, s.service())
		}
	}
	if c := o.object("ConfigEntries"); c != nil {
		for _, e := range c.objects("Bootstrap") {
			out.Intentions = append(out.Intentions, e.entry())
		}
		c.done()
	}
	o.known = append(o.known, "Kind")
	o.done()
	return out
}

// ParseFiles reads files by name and joins what they define. No destination
// and no service ID may be defined twice: in Consul the last write would win,
// and files have no such order.
func ParseFiles(files map[string]string) (Entries, error) {
	var out Entries
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		e, err := ParseFile(name, []byte(files[name]))
		if err != nil {
			return Entries{}, err
		}
		out.Intentions = append(out.Intentions, e.Intentions...)
		out.Services = append(out.Services, e.Services...)
	}
	return out, out.checkUnique()
}

func (x Entries) checkUnique() error {
	destinations := map[string]Place{}
	for _, e := range x.Intentions {
		if err := claim(destinations, strings.ToLower(e.Name), e.Place, "destination"); err != nil {
			return err
		}
	}
	services := map[string]Place{}
	for _, s := range x.Services {
		if err := claim(services, s.ID, s.Place, "service ID"); err != nil {
			return err
		}
	}
	return nil
}

func claim(taken map[string]Place, name string, at Place, what string) error {
	if first, twice := taken[name]; twice {
		return &Error{at, fmt.Sprintf("%s %q is defined already at %s", what, name, first), "join the two definitions"}
	}
	taken[name] = at
	return nil
}
