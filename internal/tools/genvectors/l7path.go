package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func l7Methods() []*builder {
	all := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}
	var lines []string
	for _, m := range all {
		lines = append(lines, fmt.Sprintf(`%s > db {"Action":"allow","HTTP":{"Methods":["%s"]}}`, m, m))
	}
	lines = append(lines,
		`two > db {"Action":"allow","HTTP":{"Methods":["GET","POST"]}}`,
		`any > db {"Action":"allow","HTTP":{"PathPrefix":"/"}}`,
		`rest > db {"Action":"deny","HTTP":{"Methods":["GET","HEAD","POST","PUT","PATCH","DELETE","CONNECT","OPTIONS","TRACE"]}} {"Action":"allow","HTTP":{"PathPrefix":"/"}}`,
	)
	b := fromRows("l7-method", "db", trustDomain, denyByDefault, rows(lines...), "method")
	for _, m := range all {
		for _, other := range []string{m, strings.ToLower(m), m[:1] + strings.ToLower(m[1:]), all[(len(m)+3)%9]} {
			flag := ""
			if other != strings.ToUpper(other) {
				flag = "case"
			}
			b.request(fmt.Sprintf("The permission names %s and the method is %s.", m, other), from(m), ask(other, "/"), flag)
		}
		b.request("A permission that names two methods.", from("two"), ask(m, "/"))
	}
	for _, m := range []string{"PURGE", "PROPFIND", "get", "M-SEARCH", "GETX", "GE", "*", "a!#$%&'*+.^_`|~1"} {
		for _, source := range []string{"any", "two", "rest"} {
			b.request("A method beyond the nine is judged only where no method is named.", from(source), ask(m, "/"), "unknown-method")
		}
	}
	for _, m := range []string{"", " ", "GE T", "GET ", " GET", "GET\n", "GET\x00", "GÉT", "GET/", "G(", "\"GET\"", "GET,POST"} {
		for _, source := range []string{"any", "GET"} {
			b.request("A method that is not a token is denied.", from(source), ask(m, "/"), "malformed")
		}
	}
	for _, n := range []int{32, 33} {
		r := get("/")
		r.Method = repeat("M", n)
		b.request(fmt.Sprintf("A method of %d bytes; the limit is 32.", n), from("any"), r, "oversized")
	}
	return []*builder{b}
}

func l7Paths() []*builder {
	b := fromRows("l7-path", "db", trustDomain, denyByDefault, rows(
		`exact > db {"Action":"allow","HTTP":{"PathExact":"/v1/Users"}}`,
		`exact-slash > db {"Action":"allow","HTTP":{"PathExact":"/v1/"}}`,
		`exact-root > db {"Action":"allow","HTTP":{"PathExact":"/"}}`,
		`exact-query > db {"Action":"allow","HTTP":{"PathExact":"/v1?x=1"}}`,
		`prefix > db {"Action":"allow","HTTP":{"PathPrefix":"/v1"}}`,
		`prefix-slash > db {"Action":"allow","HTTP":{"PathPrefix":"/v1/"}}`,
		`prefix-root > db {"Action":"allow","HTTP":{"PathPrefix":"/"}}`,
		`regex > db {"Action":"allow","HTTP":{"PathRegex":"/v[0-9]+(/.*)?"}}`,
		`deny-admin > db {"Action":"deny","HTTP":{"PathPrefix":"/admin"}} {"Action":"allow","HTTP":{"PathPrefix":"/"}}`,
	), "path")
	paths := []string{
		"/", "/v1", "/v1/", "/v1/Users", "/v1/users", "/v1/Users/", "/v1/Users/7", "/v1x", "/V1/", "/v10/x",
		"/v1?x=1", "/v1/Users?x=1", "/v1/Users?", "/?/v1/Users", "/v1/Users?a?b", "/x?/../v1/Users", "/admin", "/administrator", "/Admin", "/x/admin",
		"/v1/a:b@c!$&'()*+,=~_-.", "/v1/a|b^c`{}\"<>[]",
	}
	for _, source := range []string{"exact", "exact-slash", "exact-root", "exact-query", "prefix", "prefix-slash", "prefix-root", "regex", "deny-admin"} {
		for _, p := range paths {
			flag := ""
			if strings.Contains(p, "?") {
				flag = "query"
			}
			b.request(fmt.Sprintf("The target is %s.", p), from(source), get(p), matcherFlag(source), flag)
		}
	}
	for _, p := range []string{"", "*", "v1", "?x=1", "http://db.test/v1/Users", "db.test:443", "//db.test/v1/Users", "/v1/Users#x", "/v1/Users?#x", "/v1#/../x"} {
		flag := "malformed"
		if strings.Contains(p, "#") {
			flag = "fragment"
		}
		for _, source := range []string{"exact", "prefix-root"} {
			b.request(fmt.Sprintf("A target in another form: %q.", p), from(source), get(p), flag)
		}
	}
	for _, n := range []int{8191, 8192, 8193, 1 << 20} {
		r := get("/")
		r.Path = join(plain("/v1/"), repeat("p", n-4))
		b.request(fmt.Sprintf("A target of %d bytes; the limit is 8192.", n), from("prefix"), r, "oversized")
		r = get("/")
		r.Path = join(plain("/v1/Users?"), repeat("q", n-10))
		b.request(fmt.Sprintf("A target of %d bytes with its query, which counts; the limit is 8192.", n), from("exact"), r, "oversized", "query")
	}
	return []*builder{b}
}

// regexSamples are an expression and values that it is asked about.
var regexSamples = [][]string{
	{`a|ab`, "a", "ab", "abc", "b", ""},
	{`a|b`, "a", "b", "ab", "a|b"},
	{`ab|cd`, "ab", "cd", "abd", "acd", "abcd"},
	{`^a$`, "a", "aa", "ba"},
	{`^a|b$`, "a", "b", "ab", "axb"},
	{`a.c`, "abc", "ac", "abbc", "a\tc", "aéc", "a/c"},
	{`(?s)a.c`, "abc", "a\tc"},
	{`(?i)gold`, "gold", "GOLD", "Golden", "\u212aey"},
	{`(?i)k`, "k", "K", "\u212a"},
	{`(?m)^a$`, "a", "ba"},
	{`[a-c]+`, "abc", "abcd", "A", ""},
	{`[^/]+`, "abc", "a/b", "é"},
	{`\d+`, "12", "1a", "٣"},
	{`\w+`, "a_1", "é", "a-b"},
	{`\s`, " ", "\t", "\u00a0"},
	{`\bgold\b`, "gold", "a gold b"},
	{`.*gold.*`, "gold", "a gold b", "silver"},
	{`gold`, "gold", "golden", "a gold", "GOLD"},
	{`a{2,3}`, "a", "aa", "aaa", "aaaa"},
	{`(a+)+b`, "aaab", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"},
	{`a*?`, "", "a", "aaa"},
	{`(?:a|b)(?:c|d)`, "ac", "bd", "a", "cd"},
	{`\Aab\z`, "ab", "abc"},
	{`\p{Greek}+`, "αβ", "ab"},
	{`\x41`, "A", "a"},
	{`\Qa.b\E`, "a.b", "axb"},
	{`.`, "a", "é", "", "ab"},
	{`x*`, "", "x", "y"},
	{`[[:alpha:]]+`, "ab", "a1"},
	{`a,b`, "a,b", "a"},
}

// badRegexes are expressions that RE2 does not compile.
var badRegexes = []string{`a(`, `a)(b`, `*a`, `(?=a)b`, `(?!a)b`, `(a)\1`, `a{1001}`, `[z-a]`, `(?P<n`, `\`, `a**`, `\p{Nope}`, `(?<!a)b`, `a++`}

func l7Regex() []*builder {
	var lines []string
	add := func(name, expression string) {
		value := compact(expression)
		lines = append(lines,
			fmt.Sprintf(`%s > db {"Action":"allow","HTTP":{"Header":[{"Name":"x","Regex":%s}]}}`, name, value),
			fmt.Sprintf(`%s-not > db {"Action":"allow","HTTP":{"Header":[{"Name":"x","Regex":%s,"Invert":true}]}}`, name, value))
	}
	for i, s := range regexSamples {
		add(fmt.Sprintf("re-%02d", i), s[0])
	}
	for i, e := range badRegexes {
		add(fmt.Sprintf("bad-%02d", i), e)
	}
	b := fromRows("l7-regex", "db", trustDomain, denyByDefault, rows(lines...), "regex", "header")
	for i, s := range regexSamples {
		for j, v := range s[1:] {
			comment := fmt.Sprintf("The expression %s is asked about the whole value %q.", s[0], v)
			b.request(comment, from(fmt.Sprintf("re-%02d", i)), ask("GET", "/", "x", v))
			if j == 0 {
				b.request(comment, from(fmt.Sprintf("re-%02d-not", i)), ask("GET", "/", "x", v))
			}
		}
	}
	for i, e := range badRegexes {
		comment := fmt.Sprintf("The expression %s is not RE2, so the rule cannot be judged.", e)
		b.request(comment, from(fmt.Sprintf("bad-%02d", i)), ask("GET", "/", "x", "ab"), "unsupported")
		b.request(comment, from(fmt.Sprintf("bad-%02d-not", i)), ask("GET", "/", "x", "ab"), "unsupported")
	}
	b.request("The values are joined before an expression is asked.", from("re-29"), ask("GET", "/", "x", "a", "x", "b"), "multi-value-header")
	return []*builder{b, l7PathRegex()}
}

func l7PathRegex() *builder {
	expressions := []string{
		`/a|/b`, `/v1/.*`, `/v1`, `^/v1$`, `/v1/[^/]+/x`, `.*`, `/(?i)ADMIN`, `.*/admin`, `/v1/\d+`, `v1`, `/v1.x`,
	}
	var lines []string
	for i, e := range expressions {
		lines = append(lines, fmt.Sprintf(`p-%02d > db {"Action":"allow","HTTP":{"PathRegex":%s}}`, i, compact(e)))
	}
	b := fromRows("l7-path-regex", "db", trustDomain, denyByDefault, rows(lines...), "regex", "path")
	for i, e := range expressions {
		for _, p := range []string{"/a", "/b", "/v1", "/v1/", "/v1/7", "/v1/7/x", "/admin", "/v1/x?y=/a"} {
			b.request(fmt.Sprintf("The expression %s is asked about the path %s.", e, p), from(fmt.Sprintf("p-%02d", i)), get(p))
		}
	}
	return b
}

// derivation is the shape of the answers that were derived from Consul's rules.
type derivation struct {
	Domain    string `json:"trust_domain"`
	Scenarios []struct {
		Name        string `json:"name"`
		Allow       bool   `json:"default_allow"`
		Destination string `json:"destination"`
		Intentions  []row  `json:"intentions"`
		Cases       []struct {
			Source, Method, Path, Why string
			Headers                   map[string][]string
			Allow                     bool
			Compiled                  *bool `json:"compiled_rbac_allow"`
		} `json:"cases"`
	} `json:"scenarios"`
}

// alike are the paths that have one reading, as they are.
var alike = regexp.MustCompile(`\A/[^#%\\;]*\z`)

// l7Derived takes over the derived answers. Where the path needs no
// normalization the reference has to agree with them.
func l7Derived(root string) ([]*builder, error) {
	raw, err := os.ReadFile(filepath.Join(root, "internal/tools/genvectors/testdata/consul-l7.json"))
	if err != nil {
		return nil, err
	}
	var d derivation
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	var out []*builder
	for _, s := range d.Scenarios {
		f := fallback{"deny", "acl"}
		if s.Allow {
			f.action = "allow"
		}
		b := fromRows("l7-derived-"+strings.TrimPrefix(s.Name, "l7-"), s.Destination, d.Domain, f, s.Intentions, "derived")
		for _, c := range s.Cases {
			r := ask(c.Method, c.Path)
			for name, values := range c.Headers {
				for _, v := range values {
					r.Headers[name] = append(r.Headers[name], plain(v))
				}
			}
			flags, path := []string{}, strings.SplitN(c.Path, "?", 2)[0]
			if strings.Contains(path, "#") {
				flags = append(flags, "fragment")
			}
			ours := !alike.MatchString(path) || strings.Contains(path, "//") || strings.Contains(path, "/.")
			if ours {
				flags = append(flags, "normalization")
			}
			if c.Compiled != nil {
				flags = append(flags, "compiled-differs")
			}
			source := "spiffe://" + d.Domain + "/ns/default/dc/dc1/svc/" + c.Source
			a := b.policy.Decide(source, r.expand())
			if a.Decision != "allow" && c.Allow {
				flags = append(flags, stricter)
			}
			if !ours && (a.Decision == "allow") != c.Allow {
				return nil, fmt.Errorf("%s: %s %s of %s: the reference says %s, not %v: %s",
					s.Name, c.Method, c.Path, c.Source, a.Decision, c.Allow, c.Why)
			}
			b.request("Derived from Consul's rules: "+c.Why+".", plain(source), r, flags...)
		}
		b.next(&out)
	}
	return out, nil
}
