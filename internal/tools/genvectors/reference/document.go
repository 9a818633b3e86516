package reference

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Policy is a policy document as far as decisions need it.
type Policy struct {
	newer       bool
	trustDomain string
	// partition is the destination's.
	partition string
	fallback  string
	norm      Normalization
	rules     []rule
}

type rule struct {
	id, partition, namespace, name string
	action                         string
	permissions                    []permission
	// unsupported is set where any part of the rule is not understood.
	unsupported bool
}

// object reads the members of one JSON object and remembers the first fault.
type object struct {
	members map[string]any
	taken   []string
	fault   *error
}

func (o *object) fail(format string, args ...any) {
	if *o.fault == nil {
		*o.fault = fmt.Errorf(format, args...)
	}
}

// take returns a member; null counts as absent.
func (o *object) take(name string) any {
	o.taken = append(o.taken, name)
	return o.members[name]
}

// unknown reports whether there are members that nobody took.
func (o *object) unknown() bool {
	for name := range o.members {
		if !slices.Contains(o.taken, name) {
			return true
		}
	}
	return false
}

func (o *object) text(name string) string {
	v := o.take(name)
	s, ok := v.(string)
	if v != nil && !ok {
		o.fail("%s is not a string", name)
	}
	return s
}

func (o *object) flag(name string, absent bool) bool {
	v := o.take(name)
	b, ok := v.(bool)
	switch {
	case v == nil:
		return absent
	case !ok:
		o.fail("%s is not a boolean", name)
	}
	return b
}

func (o *object) integer(name string) int {
	v := o.take(name)
	f, ok := v.(float64)
	if v != nil && (!ok || f != math.Trunc(f)) {
		o.fail("%s is not an integer", name)
	}
	return int(f)
}

func (o *object) list(name string) []any {
	v := o.take(name)
	l, ok := v.([]any)
	if v != nil && !ok {
		o.fail("%s is not an array", name)
	}
	return l
}

func (o *object) texts(name string) []string {
	var out []string
	for _, v := range o.list(name) {
		s, ok := v.(string)
		if !ok {
			o.fail("%s has something that is not a string", name)
		}
		out = append(out, s)
	}
	return out
}

// child reads an object inside; present is false where there is none.
func (o *object) child(name string) (child *object, present bool) {
	v := o.take(name)
	if v == nil {
		return &object{fault: o.fault}, false
	}
	return o.asObject(name, v), true
}

// asObject takes null for an object without members.
func (o *object) asObject(name string, v any) *object {
	m, ok := v.(map[string]any)
	if v != nil && !ok {
		o.fail("%s is not an object", name)
	}
	return &object{members: m, fault: o.fault}
}

// ReadPolicy reads a policy document. An error means that the whole document
// has to be refused. Of a newer schema only the number is understood.
func ReadPolicy(raw []byte) (*Policy, error) {
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	var fault error
	o := &object{members: members, fault: &fault}
	schema := o.integer("schema")
	if fault != nil || schema < 1 {
		return nil, errors.Join(fault, errors.New("no schema"))
	}
	if schema > 1 {
		return &Policy{newer: true}, nil
	}
	p := o.policy()
	return p, fault
}

func (o *object) policy() *Policy {
	p := &Policy{trustDomain: o.text("trust_domain"), fallback: o.text("default_action")}
	o.text("default_origin")
	o.texts("request_headers")
	o.integer("index")
	destination, _ := o.child("destination")
	if p.partition = strings.ToLower(destination.text("partition")); p.partition == "" {
		p.partition = "default"
	}
	destination.text("namespace")
	if !domainForm.MatchString(p.trustDomain) || p.trustDomain == "." || p.trustDomain == ".." {
		o.fail("trust_domain is %q", p.trustDomain)
	}
	if destination.text("name") == "" {
		o.fail("no destination")
	}
	if p.fallback != "allow" && p.fallback != "deny" {
		o.fail("default_action is %q", p.fallback)
	}
	p.norm = o.normalization()
	if o.take("rules") == nil {
		o.fail("no rules")
	}
	for _, v := range o.list("rules") {
		p.rules = append(p.rules, o.asObject("rule", v).rule())
	}
	return p
}

func (o *object) normalization() Normalization {
	n, _ := o.child("normalization")
	out := Normalization{
		Path: n.flag("path", true), MergeSlashes: n.flag("merge_slashes", false),
		EscapedSlashes: n.text("escaped_slashes"), Underscores: n.text("underscores"),
	}
	if n.members["escaped_slashes"] == nil {
		out.EscapedSlashes = "keep"
	}
	if n.members["underscores"] == nil {
		out.Underscores = "allow"
	}
	if !slices.Contains([]string{"keep", "reject", "unescape"}, out.EscapedSlashes) {
		o.fail("escaped_slashes is %q", out.EscapedSlashes)
	}
	if !slices.Contains([]string{"allow", "reject", "drop"}, out.Underscores) {
		o.fail("underscores is %q", out.Underscores)
	}
	return out
}

func (o *object) rule() rule {
	r := rule{id: o.text("id"), action: o.text("action")}
	o.integer("precedence")
	source, _ := o.child("source")
	r.partition, r.namespace, r.name = source.text("partition"), source.text("namespace"), source.text("name")
	if r.partition == "" || r.namespace == "" || r.name == "" {
		o.fail("a rule without a whole source")
	}
	r.unsupported = source.unknown() || o.text("reason") != ""
	for _, word := range o.texts("requires") {
		r.unsupported = r.unsupported || word != "regex"
	}
	for _, v := range o.list("permissions") {
		p, ok := o.asObject("permission", v).permission()
		r.permissions = append(r.permissions, p)
		r.unsupported = r.unsupported || !ok
	}
	hasAction, hasPermissions := r.action != "", len(r.permissions) > 0
	if o.unknown() || hasAction == hasPermissions ||
		hasAction && r.action != "allow" && r.action != "deny" {
		r.unsupported = true
	}
	return r
}
