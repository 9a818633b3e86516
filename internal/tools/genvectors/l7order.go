package main

import (
	"fmt"
	"strings"
)

// l7Order is about the order of permissions and about what no permission
// matches.
func l7Order() []*builder {
	conditions := map[string]string{
		"path":   `"PathPrefix":"/v1/"`,
		"method": `"Methods":["GET"]`,
		"header": `"Header":[{"Name":"x","Exact":"1"}]`,
		"all":    `"PathPrefix":"/v1/","Methods":["GET"],"Header":[{"Name":"x","Exact":"1"}]`,
	}
	var out []*builder
	for _, d := range []fallback{denyByDefault, allowByDefault} {
		var lines []string
		for _, first := range sortedKeys(conditions) {
			for _, second := range sortedKeys(conditions) {
				for _, action := range []string{"allow", "deny"} {
					other := map[string]string{"allow": "deny", "deny": "allow"}[action]
					lines = append(lines, fmt.Sprintf(`%s-%s-%s > db {"Action":"%s","HTTP":{%s}} {"Action":"%s","HTTP":{%s}}`,
						action, first, second, action, conditions[first], other, conditions[second]))
				}
			}
		}
		b := fromRows("l7-order-"+d.action, "db", trustDomain, d, rows(lines...), "first-match")
		for _, line := range lines {
			source, _, _ := strings.Cut(line, " ")
			for i, r := range []*request{ask("GET", "/v1/a", "x", "1"), ask("GET", "/v2/a"), ask("POST", "/v1/a", "x", "2"), ask("PUT", "/", "x", "1")} {
				if (i+len(source))%2 == 0 || d.action == "deny" {
					b.request("The first permission that matches decides, or else the default action.", from(source), r)
				}
			}
		}
		b.next(&out)
	}
	return out
}

// l7Precedence is about rules with permissions among rules with actions.
func l7Precedence() []*builder {
	v1 := `{"Action":"allow","HTTP":{"PathPrefix":"/v1/"}}`
	noAdmin := `{"Action":"deny","HTTP":{"PathPrefix":"/admin"}}`
	lists := [][]string{
		{"web > db " + v1, "* > db allow", "* > * allow"},
		{"web > db " + v1, "* > db deny", "* > * deny"},
		{"web > db allow", "* > db " + v1},
		{"web > db deny", "* > db " + v1},
		{"web > db " + v1, "web > * allow"},
		{"web > db " + noAdmin, "web > * deny"},
		{"* > db " + noAdmin, "web > * allow", "* > * deny"},
		{"web > db " + noAdmin + " " + v1, "* > db " + v1},
	}
	var out []*builder
	for i, lines := range lists {
		for _, d := range []fallback{denyByDefault, allowByDefault} {
			b := fromRows(fmt.Sprintf("l7-precedence-%d-%s", i, d.action), "db", trustDomain, d, rows(lines...), "precedence")
			for _, source := range []string{"web", "other"} {
				for _, path := range []string{"/v1/a", "/admin", "/x"} {
					b.request("Where no permission matches, the default action applies and not the next rule.", from(source), get(path))
				}
			}
			b.request("Without a request the question is about the connection.", from("web"), nil, "per-request")
			b.request("A rule with an action never looks at the request.", from("other"), ask("GE T", "#\x00"), "malformed")
			b.request("A foreign source is denied before any permission.", plain("spiffe://other.consul/ns/default/dc/dc1/svc/web"), get("/v1/a"), "trust-domain")
			b.request("A malformed source is denied before any permission.", plain("spiffe://"+trustDomain+"/web"), get("/v1/a"), "malformed")
			b.next(&out)
		}
	}
	return out
}

// l7Unsupported is about permissions that cannot be judged: the whole rule
// denies, and the next rule is not looked at.
func l7Unsupported() []*builder {
	var lines []string
	list := map[string]string{
		"jwt":             `{"Action":"allow","HTTP":{"PathPrefix":"/"},"JWT":{"Providers":[{"Name":"okta"}]}}`,
		"jwt-second":      `{"Action":"allow","HTTP":{"PathPrefix":"/"}} {"Action":"deny","HTTP":{"PathPrefix":"/x"},"JWT":{"Providers":[{"Name":"okta"}]}}`,
		"no-http":         `{"Action":"allow"}`,
		"action":          `{"Action":"audit","HTTP":{"PathPrefix":"/"}}`,
		"two-paths":       `{"Action":"allow","HTTP":{"PathPrefix":"/","PathExact":"/a"}}`,
		"two-matchers":    `{"Action":"allow","HTTP":{"Header":[{"Name":"x","Exact":"1","Prefix":"1"}]}}`,
		"no-matcher":      `{"Action":"allow","HTTP":{"Header":[{"Name":"x"}]}}`,
		"no-name":         `{"Action":"allow","HTTP":{"Header":[{"Present":true,"Invert":true}]}}`,
		"unknown":         `{"Action":"allow","HTTP":{"PathPrefix":"/"},"Rate":5}`,
		"unknown-http":    `{"Action":"allow","HTTP":{"PathPrefix":"/","PathSuffix":"x"}}`,
		"unknown-header":  `{"Action":"allow","HTTP":{"Header":[{"Name":"x","Glob":"*"}]}}`,
		"unknown-method":  `{"Action":"allow","HTTP":{"Methods":["GET","PURGE"]}}`,
		"lower-method":    `{"Action":"allow","HTTP":{"Methods":["get"]}}`,
		"pseudo-header":   `{"Action":"allow","HTTP":{"Header":[{"Name":":path","Prefix":"/"}]}}`,
		"fold-regex":      `{"Action":"allow","HTTP":{"Header":[{"Name":"x","Regex":"a","IgnoreCase":true}]}}`,
		"fold-present":    `{"Action":"allow","HTTP":{"Header":[{"Name":"x","Present":true,"IgnoreCase":true}]}}`,
		"wrong-type":      `{"Action":"allow","HTTP":{"Methods":"GET"}}`,
		"wrong-type-deny": `{"Action":"deny","HTTP":{"PathPrefix":7}}`,
	}
	for _, name := range sortedKeys(list) {
		lines = append(lines, name+" > db "+list[name])
	}
	lines = append(lines, "* > db allow")
	b := fromRows("l7-unsupported", "db", trustDomain, allowByDefault, rows(lines...), "unsupported")
	for _, name := range sortedKeys(list) {
		comment := fmt.Sprintf("An intention that cannot be judged denies (%s).", strings.ReplaceAll(name, "-", " "))
		b.request(comment, from(name), ask("GET", "/a", "x", "a"))
		b.request(comment, from(name), nil)
	}
	b.request("Others are judged as before.", from("web"), get("/a"))
	return []*builder{b}
}
