package entries

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// object reads the members of one object by name. The first problem is kept
// and everything after it reads as absent, so that callers need one look at
// the end.
type object struct {
	d *decoder
	n *node
	// path names the object in messages; empty for the whole file.
	path string
	// known are the names that were asked for.
	known []string
}

type decoder struct{ err error }

func (d *decoder) fail(at Place, remedy, problem string, args ...any) {
	if d.err == nil {
		d.err = &Error{at, fmt.Sprintf(problem, args...), remedy}
	}
}

// name is how messages call a member.
func (o *object) name(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

func (o *object) fail(key, remedy, problem string) {
	o.d.fail(o.at(key), remedy, "%s %s", o.name(key), problem)
}

// at is where a member is, or the object if it is absent.
func (o *object) at(key string) Place {
	for i := range o.n.attrs {
		if matches(o.n.attrs[i].name, key) {
			return o.n.attrs[i].at
		}
	}
	return o.n.at
}

// matches compares a key as Consul does: without regard to case, and with the
// words run together or joined by underscores.
func matches(written, key string) bool {
	return strings.EqualFold(written, key) || strings.EqualFold(written, snake(key))
}

func snake(key string) string {
	var b strings.Builder
	for i, c := range key {
		if i > 0 && unicode.IsUpper(c) && unicode.IsLower(rune(key[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

func (o *object) has(key string) bool { return len(o.find(key)) > 0 }

// find returns the values of a member: more than one where a block repeats.
func (o *object) find(key string) []*node {
	o.known = append(o.known, key)
	var found []*node
	blocks := true
	for _, m := range o.n.attrs {
		if !matches(m.name, key) {
			continue
		}
		blocks = blocks && m.block
		if len(found) > 0 && !blocks {
			o.d.fail(m.at, "keep one of them", "%s is given twice", o.name(key))
			return nil
		}
		if m.value.kind != kindNull {
			found = append(found, m.value)
		}
	}
	return found
}

// scalar returns the one value of a member if it has the kind wanted.
func (o *object) scalar(key string, want kind) *node {
	found := o.find(key)
	if len(found) == 0 {
		return nil
	}
	if len(found) > 1 || found[0].kind != want {
		o.d.fail(found[0].at, fmt.Sprintf("write %s", want), "%s is %s", o.name(key), found[0].kind)
		return nil
	}
	return found[0]
}

func (o *object) text(key string) string {
	if n := o.scalar(key, kindText); n != nil {
		return n.text
	}
	return ""
}

func (o *object) flag(key string) bool {
	n := o.scalar(key, kindFlag)
	return n != nil && n.flag
}

func (o *object) number(key string) int {
	n := o.scalar(key, kindNumber)
	if n == nil {
		return 0
	}
	v, err := strconv.Atoi(n.text)
	if err != nil {
		o.d.fail(n.at, "write a whole number", "%s is %s", o.name(key), n.text)
	}
	return v
}

// elements returns the values of a list; a single value stands for a list of
// one, as in Consul.
func (o *object) elements(key string) []*node {
	found := o.find(key)
	if len(found) == 1 && found[0].kind == kindList {
		return found[0].list
	}
	return found
}

func (o *object) texts(key string) []string {
	var out []string
	for _, n := range o.elements(key) {
		if n.kind != kindText {
			o.d.fail(n.at, "write a list of texts", "%s holds %s", o.name(key), n.kind)
			return nil
		}
		out = append(out, n.text)
	}
	return out
}

func (o *object) objects(key string) []*object {
	var out []*object
	for i, n := range o.elements(key) {
		path := fmt.Sprintf("%s[%d]", o.name(key), i)
		if n.kind != kindObject {
			o.d.fail(n.at, "write objects in braces", "%s is %s", path, n.kind)
			return nil
		}
		out = append(out, &object{d: o.d, n: n, path: path})
	}
	return out
}

// object returns the one object of a member, or nil.
func (o *object) object(key string) *object {
	list := o.objects(key)
	if len(list) > 1 {
		o.fail(key, "keep one of them", "is given twice")
	}
	if len(list) == 0 {
		return nil
	}
	list[0].path = o.name(key)
	return list[0]
}

func (o *object) pairs(key string) map[string]string {
	child := o.object(key)
	if child == nil || len(child.n.attrs) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, m := range child.n.attrs {
		if _, twice := out[m.name]; twice || m.value.kind != kindText {
			o.d.fail(m.at, "write each key once, with a text", "%s is not usable", child.name(m.name))
		}
		out[m.name] = m.value.text
	}
	return out
}

// ignore accepts members that say nothing here.
func (o *object) ignore(keys ...string) { o.known = append(o.known, keys...) }

// done refuses members that nobody asked for.
func (o *object) done() {
	for _, m := range o.n.attrs {
		if slices.ContainsFunc(o.known, func(key string) bool { return matches(m.name, key) }) {
			continue
		}
		o.d.fail(m.at, "known here: "+o.knownAs(m.name), "unknown key %s", o.name(m.name))
	}
}

// knownAs lists the known names in the style of one that was written.
func (o *object) knownAs(written string) string {
	var names []string
	for _, key := range o.known {
		if written != "" && unicode.IsLower(rune(written[0])) {
			key = snake(key)
		}
		names = append(names, key)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}
