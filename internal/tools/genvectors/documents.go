package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/connectd/connectd/internal/tools/genvectors/reference"
)

// documentCase is one policy document, as JSON or, where it is none, as text.
type documentCase struct {
	head
	Document json.RawMessage `json:"document,omitempty"`
	Text     *string         `json:"text,omitempty"`
	Valid    bool            `json:"valid"`
	Cases    []any           `json:"cases"`
}

// documents collects the cases.
type documents struct {
	list   []any
	counts map[string]int
}

func documentFile() (*vectorFile, error) {
	d := &documents{counts: map[string]int{}}
	d.texts()
	d.topLevel()
	d.newer()
	d.rules()
	d.permissions()
	d.order()
	d.spelled()
	return &vectorFile{
		schema: "documents.schema.json",
		about:  "Policy documents that are malformed, contradict themselves or come from the future, and the decisions by those that are valid.",
		cases:  d.list,
	}, nil
}

// goodDocument is a document with a rule for web, one for api that takes
// permissions, and one for everybody else.
const goodDocument = `{"index":7,"schema":1,"trust_domain":"td.consul",
"destination":{"partition":"default","namespace":"default","name":"db"},
"default_action":"deny","default_origin":"acl","request_headers":["x-a"],
"normalization":{"path":true,"merge_slashes":false,"escaped_slashes":"keep","underscores":"allow"},
"rules":[
{"id":"r1","precedence":9,"source":{"partition":"default","namespace":"default","name":"web"},"action":"allow"},
{"id":"r2","precedence":9,"source":{"partition":"default","namespace":"default","name":"api"},"permissions":[
{"action":"allow","path":{"match":"prefix","value":"/v1/"},"methods":["GET"],"headers":[{"name":"x-a","match":"exact","value":"1","invert":false,"ignore_case":false}]}]},
{"id":"r3","precedence":8,"source":{"partition":"default","namespace":"default","name":"*"},"action":"allow"}]}`

// good returns the document in a form that can be changed.
func good() map[string]any {
	var m map[string]any
	if err := json.Unmarshal([]byte(goodDocument), &m); err != nil {
		panic(err)
	}
	return m
}

// ruleOf, permissionOf and headerOf reach into a document.
func ruleOf(m map[string]any, i int) map[string]any { return m["rules"].([]any)[i].(map[string]any) }

func permissionOf(m map[string]any) map[string]any {
	return ruleOf(m, 1)["permissions"].([]any)[0].(map[string]any)
}

func headerOf(m map[string]any) map[string]any {
	return permissionOf(m)["headers"].([]any)[0].(map[string]any)
}

// add decides by a document and appends the case.
func (d *documents) add(topic, flag, comment string, raw []byte) {
	d.counts[topic]++
	c := documentCase{head: head{fmt.Sprintf("document-%s-%03d", topic, d.counts[topic]), []string{topic, flag}, comment}, Cases: []any{}}
	if flag == "" || flag == topic {
		c.Flags = c.Flags[:1]
	}
	var flat bytes.Buffer
	if json.Compact(&flat, raw) == nil {
		c.Document = flat.Bytes()
	} else {
		text := string(raw)
		c.Text = &text
	}
	p, err := reference.ReadPolicy(raw)
	c.Valid = err == nil
	if c.Valid {
		c.Cases = documentAnswers(c.ID, c.Flags, p)
	}
	d.list = append(d.list, c)
}

// documentAnswers asks the same questions of every document.
func documentAnswers(id string, flags []string, p *reference.Policy) []any {
	var out []any
	for i, q := range []struct {
		source  string
		request *request
		comment string
	}{
		{"web", nil, "The source of the first rule."},
		{"api", nil, "The source of the second rule, which has permissions."},
		{"api", ask("GET", "/v1/x", "x-a", "1"), "The source of the second rule with a request that its permission allows."},
		{"api", get("/other"), "The source of the second rule with a request that its permission does not match."},
		{"else", nil, "Any other source."},
		{"else*", nil, "A malformed source."},
	} {
		source := "spiffe://td.consul/ns/default/dc/dc1/svc/" + q.source
		out = append(out, l7Case{
			head{fmt.Sprintf("%s/%d", id, i+1), flags, q.comment}, plain(source), q.request, p.Decide(source, q.request.expand()),
		})
	}
	return out
}

// change adds the good document with a change.
func (d *documents) change(topic, flag, comment string, change func(m map[string]any)) {
	m := good()
	change(m)
	d.add(topic, flag, comment, compact(m))
}

// values are of every JSON type.
var values = map[string]any{
	"null": nil, "a boolean": true, "a number": 7, "a fraction": 1.5, "a string": "x", "an array": []any{"x"}, "an object": map[string]any{"x": 1},
	"an empty string": "", "an empty array": []any{}, "an empty object": map[string]any{},
}

// each sets a member to values of every type, and removes it.
func (d *documents) each(topic, where string, reach func(map[string]any) map[string]any, names ...string) {
	for _, name := range names {
		d.change(topic, "missing", fmt.Sprintf("The %s has no %s.", where, name), func(m map[string]any) { delete(reach(m), name) })
		for _, kind := range sortedKeys(values) {
			d.change(topic, "wrong-type", fmt.Sprintf("The %s has %s as its %s.", where, kind, name), func(m map[string]any) { reach(m)[name] = values[kind] })
		}
	}
}

func (d *documents) texts() {
	for _, text := range []string{
		"", " ", "null", "true", "7", `"x"`, "[]", "{}", "{", `{"schema":1`, goodDocument[:200], goodDocument + "}", goodDocument + goodDocument,
		"\ufeff" + goodDocument, strings.Replace(goodDocument, ",", ",,", 1), "// x\n" + goodDocument, strings.ReplaceAll(goodDocument, `"`, "'"), "schema: 1",
		strings.Replace(goodDocument, `"schema":1`, `"schema":01`, 1), strings.Replace(goodDocument, `"schema":1`, `"schema":1,`, 1),
	} {
		d.add("malformed", "", "Not a policy document at all.", []byte(text))
	}
	d.add("good", "", "A document without a fault.", []byte(goodDocument))
}

// spelled is about members whose names differ in letter case, which are
// unknown, and about values that nobody can have.
func (d *documents) spelled() {
	for i, name := range []string{"Action", "ACTION", "Permissions"} {
		d.change("rule", "case", fmt.Sprintf("The member %s is unknown, as names are exact.", name), func(m map[string]any) {
			r := ruleOf(m, i/2)
			r[name] = r[strings.ToLower(name)]
			delete(r, strings.ToLower(name))
		})
	}
	d.change("rule", "case", "The member Reason is unknown, as names are exact.", func(m map[string]any) { ruleOf(m, 0)["Reason"] = "" })
	d.change("permission", "case", "The member Methods is unknown, as names are exact.", func(m map[string]any) { permissionOf(m)["Methods"] = []any{"GET"} })
	d.change("permission", "case", "The member Value is unknown, as names are exact.", func(m map[string]any) { headerOf(m)["Value"] = "1" })
	for _, domain := range []string{" td.consul", "td.consul/x", "td.consul:443", "..", "é"} {
		d.change("top", "trust-domain", "A trust domain that no source can have.", func(m map[string]any) { m["trust_domain"] = domain })
	}
	d.change("permission", "case", "The letters of a header's name are folded in ASCII only.", func(m map[string]any) { headerOf(m)["name"] = "\u212a-a" })
}

func whole(m map[string]any) map[string]any { return m }

func child(name string) func(map[string]any) map[string]any {
	return func(m map[string]any) map[string]any { return m[name].(map[string]any) }
}

func (d *documents) topLevel() {
	d.each("top", "document", whole, "schema", "trust_domain", "destination", "default_action", "rules")
	d.each("top", "normalization", child("normalization"), "path", "escaped_slashes", "underscores")
	for _, name := range []string{"default_origin", "request_headers", "normalization", "index"} {
		d.change("top", "missing", "What may be absent means its default: "+name+".", func(m map[string]any) { delete(m, name) })
	}
	d.change("top", "wrong-type", "The names of headers are not strings.", func(m map[string]any) { m["request_headers"] = []any{1} })
	d.change("top", "wrong-type", "The destination has no name.", func(m map[string]any) { delete(child("destination")(m), "name") })
	d.change("top", "wrong-type", "The default action is another word.", func(m map[string]any) { m["default_action"] = "ALLOW" })
	for _, n := range []any{0, -1, "1"} {
		d.change("top", "wrong-type", fmt.Sprintf("The schema is %v.", n), func(m map[string]any) { m["schema"] = n })
	}
	d.change("future", "top", "An unknown member of the document is ignored.", func(m map[string]any) { m["future"] = map[string]any{"x": 1} })
	d.change("future", "top", "An unknown member of the destination is ignored.", func(m map[string]any) { child("destination")(m)["future"] = 1 })
	d.change("future", "top", "An unknown member of the normalization is ignored.", func(m map[string]any) { child("normalization")(m)["future"] = 1 })
	d.change("future", "top", "A word for escaped slashes that is unknown.", func(m map[string]any) { child("normalization")(m)["escaped_slashes"] = "double" })
	d.change("future", "top", "A word for underscores that is unknown.", func(m map[string]any) { child("normalization")(m)["underscores"] = "encode" })
}

// newer is about documents of a later schema: nothing but the number counts.
func (d *documents) newer() {
	for _, n := range []int{2, 3, 1000000} {
		d.change("newer-schema", "future", "A later schema denies everything.", func(m map[string]any) { m["schema"] = n })
	}
	d.change("newer-schema", "future", "A later schema with rules of another shape.", func(m map[string]any) { m["schema"], m["rules"] = 2, map[string]any{"web": "allow"} })
	d.change("newer-schema", "future", "A later schema with sources of another shape.", func(m map[string]any) { m["schema"], ruleOf(m, 0)["source"] = 2, "web" })
	d.change("newer-schema", "future", "A later schema without what this one has.", func(m map[string]any) {
		for name := range maps.Clone(m) {
			delete(m, name)
		}
		m["schema"] = 2
	})
	d.change("newer-schema", "future", "A later schema with an action that is unknown.", func(m map[string]any) { m["schema"], m["default_action"] = 2, "audit" })
	d.change("newer-schema", "future", "A later schema with trust domains in the plural.", func(m map[string]any) { m["schema"], m["trust_domain"] = 2, []any{"td.consul"} })
}

func (d *documents) rules() {
	first := func(m map[string]any) map[string]any { return ruleOf(m, 0) }
	second := func(m map[string]any) map[string]any { return ruleOf(m, 1) }
	source := func(m map[string]any) map[string]any { return child("source")(ruleOf(m, 0)) }
	d.each("rule", "first rule", first, "action", "requires", "reason", "source")
	d.each("rule", "second rule", second, "permissions")
	d.each("rule", "source of the first rule", source, "name", "namespace", "partition")
	set := func(comment, flag, name string, value any) {
		d.change("rule", flag, comment, func(m map[string]any) { ruleOf(m, 0)[name] = value })
		d.change("rule", flag, comment+" The second rule has permissions.", func(m map[string]any) { ruleOf(m, 1)[name] = value })
	}
	set("A rule that requires something unknown denies.", "requires", "requires", []any{"jwt"})
	set("A rule that requires something unknown besides denies.", "requires", "requires", []any{"regex", "jwt"})
	set("A rule that requires regex can be judged.", "regex", "requires", []any{"regex"})
	set("A rule with an unknown member denies.", "future", "future", 1)
	set("A rule with an unknown member that is null denies.", "future", "until", nil)
	set("A rule with a reason denies.", "unsupported", "reason", "unsupported")
	set("A rule with a reason of another word denies.", "future", "reason", "quarantine")
	d.change("rule", "unsupported", "What the daemon cannot judge is a denial with its reason.", func(m map[string]any) {
		ruleOf(m, 0)["action"], ruleOf(m, 0)["reason"] = "deny", "unsupported"
	})
	d.change("rule", "future", "An unknown member of a source denies.", func(m map[string]any) { source(m)["peer"] = "cloud" })
	d.change("rule", "contradiction", "Both an action and permissions.", func(m map[string]any) { ruleOf(m, 1)["action"] = "allow" })
	for _, word := range []string{"ALLOW", "Allow", "audit", "log", " allow"} {
		d.change("rule", "future", fmt.Sprintf("The action is %q.", word), func(m map[string]any) { ruleOf(m, 0)["action"] = word })
	}
	d.change("rule", "malformed", "A rule that is null.", func(m map[string]any) { m["rules"].([]any)[0] = nil })
	d.change("rule", "malformed", "A rule that is a string.", func(m map[string]any) { m["rules"].([]any)[0] = "web" })
}

func (d *documents) permissions() {
	path := func(m map[string]any) map[string]any { return child("path")(permissionOf(m)) }
	d.each("permission", "permission", permissionOf, "action", "path", "methods", "headers")
	d.each("permission", "condition on the path", path, "match", "value")
	d.each("permission", "condition on a header", headerOf, "name", "match", "value", "invert", "ignore_case")
	d.change("permission", "future", "An unknown member of a permission.", func(m map[string]any) { permissionOf(m)["rate"] = 5 })
	d.change("permission", "future", "An unknown member of a path.", func(m map[string]any) { path(m)["ignore_case"] = false })
	d.change("permission", "future", "An unknown member of a header.", func(m map[string]any) { headerOf(m)["count"] = 1 })
	d.change("permission", "malformed", "A permission that is null.", func(m map[string]any) { ruleOf(m, 1)["permissions"] = []any{nil} })
	for _, word := range []string{"glob", "Exact", "present", "suffix", "contains"} {
		d.change("permission", "match-word", fmt.Sprintf("A path is matched by %q.", word), func(m map[string]any) { path(m)["match"] = word })
	}
	for _, word := range []string{"glob", "Exact", "safe_regex", "range"} {
		d.change("permission", "match-word", fmt.Sprintf("A header is matched by %q.", word), func(m map[string]any) { headerOf(m)["match"] = word })
	}
	for _, word := range []string{"PURGE", "get", "*", "GET|POST"} {
		d.change("permission", "unknown-method", fmt.Sprintf("A permission names the method %q.", word), func(m map[string]any) { permissionOf(m)["methods"] = []any{word} })
	}
	for _, name := range []string{":path", ":method", ":authority", "Host", "X-A"} {
		d.change("permission", "header", fmt.Sprintf("A condition on the header %q.", name), func(m map[string]any) { headerOf(m)["name"] = name })
	}
	d.change("permission", "contradiction", "Presence with a value.", func(m map[string]any) { headerOf(m)["match"] = "present" })
	d.change("permission", "contradiction", "Presence without regard to case.", func(m map[string]any) {
		headerOf(m)["match"], headerOf(m)["value"], headerOf(m)["ignore_case"] = "present", "", true
	})
	d.change("permission", "contradiction", "An expression without regard to case.", func(m map[string]any) {
		headerOf(m)["match"], headerOf(m)["ignore_case"] = "regex", true
	})
	d.change("permission", "regex", "An expression that is not RE2.", func(m map[string]any) { path(m)["match"], path(m)["value"] = "regex", "/v1/(?=x)" })
	d.change("permission", "regex", "An expression that nobody announced in requires.", func(m map[string]any) { path(m)["match"], path(m)["value"] = "regex", "/v1/." })
	d.change("permission", "unsupported", "A second permission that cannot be judged denies the whole rule.", func(m map[string]any) {
		ruleOf(m, 1)["permissions"] = append(ruleOf(m, 1)["permissions"].([]any), map[string]any{"action": "deny", "rate": 5})
	})
	d.change("permission", "empty", "A permission without conditions matches every request.", func(m map[string]any) {
		ruleOf(m, 1)["permissions"] = []any{map[string]any{"action": "allow"}}
	})
}

// order is about documents that are unusual and mean what they say.
func (d *documents) order() {
	d.change("order", "", "The order of the rules counts and not their precedence.", func(m map[string]any) {
		ruleOf(m, 0)["precedence"], ruleOf(m, 2)["precedence"] = 1, 9
	})
	d.change("order", "", "The rule for everybody is the first.", func(m map[string]any) {
		r := m["rules"].([]any)
		r[0], r[2] = r[2], r[0]
		r[0].(map[string]any)["action"] = "deny"
	})
	d.change("order", "", "Two rules for one source, of which the first decides.", func(m map[string]any) {
		m["rules"] = append(m["rules"].([]any), map[string]any{
			"id": "r4", "precedence": 8, "source": ruleOf(m, 0)["source"], "action": "deny",
		})
	})
	d.change("order", "", "No rules, so the default action applies.", func(m map[string]any) { m["rules"] = []any{} })
	d.change("order", "", "No rules, and allow is the default action.", func(m map[string]any) { m["rules"], m["default_action"] = []any{}, "allow" })
	d.change("order", "case", "A partition in upper case is the same partition.", func(m map[string]any) { child("source")(ruleOf(m, 0))["partition"] = "DEFAULT" })
	d.change("order", "case", "A partition in mixed case denies one source.", func(m map[string]any) {
		child("source")(ruleOf(m, 0))["partition"], ruleOf(m, 0)["action"] = "Default", "deny"
	})
	d.change("order", "case", "A namespace in upper case is another namespace.", func(m map[string]any) { child("source")(ruleOf(m, 0))["namespace"] = "DEFAULT" })
	d.change("order", "namespace", "A wildcard in place of the namespace.", func(m map[string]any) { child("source")(ruleOf(m, 2))["namespace"] = "*" })
	d.change("order", "namespace", "A name in every namespace.", func(m map[string]any) { child("source")(ruleOf(m, 0))["namespace"] = "*" })
	d.change("order", "case", "A trust domain in upper case is the same trust domain.", func(m map[string]any) { m["trust_domain"] = "TD.CONSUL" })
	d.change("order", "trust-domain", "Another trust domain.", func(m map[string]any) { m["trust_domain"] = "other.consul" })
	d.change("order", "", "A rule without precedence.", func(m map[string]any) { delete(ruleOf(m, 0), "precedence") })
}
