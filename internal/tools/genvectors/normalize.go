package main

import (
	"fmt"
	"slices"

	"github.com/connectd/connectd/internal/tools/genvectors/reference"
)

// normalizationCase is one path under one normalization. The readings are
// informative; the decisions prove them without showing them.
type normalizationCase struct {
	head
	Path       text    `json:"path"`
	Readable   bool    `json:"readable"`
	Consul     *string `json:"consul"`
	Aggressive *string `json:"aggressive"`
	// Decisions are those of the three sources that the policy has for the case.
	Decisions []probe `json:"decisions"`
}

type probe struct {
	Source text `json:"source"`
	reference.Answer
}

// setting is one normalization and the name of its group.
type setting struct {
	name string
	norm reference.Normalization
}

var settings = []setting{
	{"default", reference.Normalization{Path: true, EscapedSlashes: "keep", Underscores: "allow"}},
	{"merge", reference.Normalization{Path: true, MergeSlashes: true, EscapedSlashes: "keep", Underscores: "allow"}},
	{"unescape", reference.Normalization{Path: true, MergeSlashes: true, EscapedSlashes: "unescape", Underscores: "allow"}},
	{"reject", reference.Normalization{Path: true, EscapedSlashes: "reject", Underscores: "allow"}},
	{"off", reference.Normalization{EscapedSlashes: "keep", Underscores: "allow"}},
}

func normalizationFile() (*vectorFile, error) {
	f := &vectorFile{
		schema: "normalization.schema.json",
		about:  "Paths, how they are read, and the decisions that follow. Every request is a GET without headers.",
	}
	for _, s := range settings {
		g, err := normalizationGroup(s)
		if err != nil {
			return nil, err
		}
		f.groups = append(f.groups, g)
	}
	return f, nil
}

// normalizationGroup builds one policy with three rules for each path: one
// that allows exactly the first reading, one that denies exactly the second,
// and one that guards /admin.
func normalizationGroup(s setting) (*group, error) {
	paths := pathSamples()
	var rules []map[string]any
	rule := func(source string, permissions ...map[string]any) {
		rules = append(rules, map[string]any{
			"id": fmt.Sprintf("r%d", len(rules)+1), "precedence": 9,
			"source":      map[string]string{"partition": "default", "namespace": "default", "name": source},
			"permissions": permissions,
		})
	}
	on := func(action, match, value string) map[string]any {
		return map[string]any{"action": action, "path": map[string]string{"match": match, "value": value}}
	}
	rule("admin", on("deny", "prefix", "/admin"), on("allow", "prefix", "/"))
	rule("public", on("allow", "prefix", "/public/"))
	for i, p := range paths {
		consul, aggressive, ok := reference.ReadPath(s.norm, p.path.String())
		if ok && len(p.path.String()) < 200 {
			rule(fmt.Sprintf("first-%03d", i+1), on("allow", "exact", consul))
			rule(fmt.Sprintf("second-%03d", i+1), on("deny", "exact", aggressive), on("allow", "prefix", "/"))
		}
	}
	raw := compact(map[string]any{
		"schema": 1, "trust_domain": trustDomain, "default_action": "deny", "default_origin": "config",
		"destination":     map[string]string{"partition": "default", "namespace": "default", "name": "db"},
		"request_headers": []string{}, "normalization": s.norm, "rules": rules,
	})
	p, err := reference.ReadPolicy(raw)
	if err != nil {
		return nil, err
	}
	g := &group{Name: "normalization-" + s.name, Policy: raw}
	for i, sample := range paths {
		g.Cases = append(g.Cases, sample.judge(p, s, i+1))
	}
	return g, nil
}

func (s pathSample) judge(p *reference.Policy, set setting, number int) normalizationCase {
	c := normalizationCase{
		head: head{fmt.Sprintf("normalization-%s-%03d", set.name, number), slices.Clone(s.flags), s.comment},
		Path: s.path,
	}
	consul, aggressive, ok := reference.ReadPath(set.norm, s.path.String())
	c.Readable = ok
	switch {
	case ok && len(consul) < 200:
		c.Consul, c.Aggressive = &consul, &aggressive
	case !ok:
		c.Flags = append(c.Flags, "unreadable")
	}
	if consul != aggressive {
		c.Flags = append(c.Flags, "two-readings")
	}
	sources := []string{"admin", "public"}
	if ok && len(s.path.String()) < 200 {
		sources = append(sources, fmt.Sprintf("first-%03d", number), fmt.Sprintf("second-%03d", number))
	}
	for _, source := range sources {
		a := p.Decide(from(source).String(), &reference.Request{Method: "GET", Path: s.path.String()})
		c.Decisions = append(c.Decisions, probe{from(source), a})
	}
	return c
}
