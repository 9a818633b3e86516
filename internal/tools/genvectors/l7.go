package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/connectd/connectd/intentions"
)

func l7File(root string) (*vectorFile, error) {
	f := &vectorFile{
		schema: "l7.schema.json",
		about:  "Decisions on requests: which request of a source may pass. Requests carry the authority as the header host.",
	}
	for _, part := range [][]*builder{
		l7Headers(), l7Host(), l7HeaderNames(), l7Illegible(), l7Underscores(), l7Methods(), l7Paths(), l7Regex(),
		l7Order(), l7Precedence(), l7Unsupported(), l7Random(),
	} {
		f.add(part)
	}
	derived, err := l7Derived(root)
	f.add(derived)
	return f, err
}

// headerTest is one condition on the header x-tier and the source that it is
// written for.
type headerTest struct{ source, condition string }

// headerTests are all matchers, inverted and with and without regard to case.
func headerTests() []headerTest {
	var out []headerTest
	for _, matcher := range []string{"Present", "Exact", "Prefix", "Suffix", "Contains", "Regex"} {
		for _, invert := range []bool{false, true} {
			for _, fold := range []bool{false, true} {
				value := `"Gold"`
				switch matcher {
				case "Present":
					value = "true"
				case "Regex":
					value = `"[Gg]old|silver"`
				}
				if fold && (matcher == "Present" || matcher == "Regex") {
					continue
				}
				name, members := strings.ToLower(matcher), fmt.Sprintf(`"Name":"X-Tier","%s":%s`, matcher, value)
				if invert {
					name, members = name+"-invert", members+`,"Invert":true`
				}
				if fold {
					name, members = name+"-ignore-case", members+`,"IgnoreCase":true`
				}
				out = append(out, headerTest{name, "{" + members + "}"})
			}
		}
	}
	return out
}

// l7Headers asks every matcher about the same headers.
func l7Headers() []*builder {
	var allow, deny []string
	for _, h := range headerTests() {
		allow = append(allow, fmt.Sprintf(`%s > db {"Action":"allow","HTTP":{"Header":[%s]}}`, h.source, h.condition))
		deny = append(deny, fmt.Sprintf(`%s > db {"Action":"deny","HTTP":{"Header":[%s]}}`, h.source, h.condition))
	}
	b := fromRows("l7-header", "db", trustDomain, denyByDefault, rows(allow...), "header")
	c := fromRows("l7-header-deny", "db", trustDomain, allowByDefault, rows(deny...), "header")
	values := [][]string{
		{}, {""}, {"Gold"}, {"gold"}, {"GOLD"}, {"Golden"}, {"a Gold"}, {"a-gold-b"}, {"silver"},
		{"Gold", "Gold"}, {"Gold", "a"}, {"a", "gold"}, {"", ""}, {"Gold,a"}, {"Göld"}, {"\tGold"},
	}
	for _, h := range headerTests() {
		for i, v := range values {
			comment, flag := fmt.Sprintf("The header has the values %q.", v), ""
			r := get("/")
			switch {
			case len(v) == 0:
				comment, flag = "The header is absent.", "absent-header"
			case len(v) > 1:
				flag = "multi-value-header"
			case v[0] == "":
				flag = "empty-header"
			}
			for _, value := range v {
				r.Headers["x-tier"] = append(r.Headers["x-tier"], plain(value))
			}
			b.request(comment, from(h.source), r, matcherFlag(h.source), flag)
			if i < 5 {
				c.request(comment, from(h.source), r, matcherFlag(h.source), flag)
			}
		}
	}
	empty := get("/")
	empty.Headers["x-tier"] = []text{}
	for _, source := range []string{"present", "present-invert", "exact-invert"} {
		b.request("A header with an empty list of values is absent.", from(source), empty, "absent-header")
	}
	return []*builder{b, c}
}

func matcherFlag(source string) string {
	if strings.HasPrefix(source, "regex") {
		return "regex"
	}
	return ""
}

func l7Host() []*builder {
	p := func(condition string) string {
		return `{"Action":"allow","HTTP":{"Header":[` + condition + `]}}`
	}
	b := fromRows("l7-host", "db", trustDomain, denyByDefault, rows(
		"exact > db "+p(`{"Name":"Host","Exact":"db.test"}`),
		"fold > db "+p(`{"Name":"host","Exact":"DB.test","IgnoreCase":true}`),
		"authority > db "+p(`{"Name":":authority","Exact":"db.test"}`),
		"suffix > db "+p(`{"Name":"host","Suffix":".test"}`),
		"prefix > db "+p(`{"Name":"host","Prefix":"db."}`),
		"regex > db "+p(`{"Name":"host","Regex":"db\\.test(:[0-9]+)?"}`),
		"present > db "+p(`{"Name":"host","Present":true}`),
		"absent > db "+p(`{"Name":"host","Present":true,"Invert":true}`),
		"other > db "+p(`{"Name":"host","Exact":"db.test","Invert":true}`),
	), "host-header")
	for _, source := range []string{"exact", "fold", "authority", "suffix", "prefix", "regex", "present", "absent", "other"} {
		for _, host := range []string{"db.test", "DB.TEST", "db.test:8443", "evil.test"} {
			b.request(fmt.Sprintf("The authority is %q.", host), from(source), ask("GET", "/", "host", host), matcherFlag(source))
		}
		b.request("There is no authority.", from(source), get("/"), "absent-header")
		b.request("An empty authority is none.", from(source), ask("GET", "/", "host", ""), "empty-header")
	}
	return []*builder{b}
}

func l7HeaderNames() []*builder {
	b := fromRows("l7-header-name", "db", trustDomain, denyByDefault, rows(
		`web > db {"Action":"allow","HTTP":{"Header":[{"Name":"X-Request-ID","Exact":"1"}]}}`,
		`two > db {"Action":"allow","HTTP":{"Header":[{"Name":"x-a","Exact":"1"},{"Name":"x-b","Exact":"2"}]}}`,
		`same > db {"Action":"allow","HTTP":{"Header":[{"Name":"x-a","Prefix":"1"},{"Name":"X-A","Suffix":"2"}]}}`,
	), "header")
	for _, name := range []string{"x-request-id", "X-Request-Id", "X-REQUEST-ID", "X-Request-ID"} {
		b.request("Names of headers are compared without regard to case.", from("web"), ask("GET", "/", name, "1"), "case")
	}
	for _, name := range []string{"x-request-id2", "request-id", "x_request_id"} {
		b.request("Another name is another header.", from("web"), ask("GET", "/", name, "1"))
	}
	b.request("Only the headers named in request_headers take part.", from("web"), ask("GET", "/", "x-request-id", "1", "x-other", "2"), "request-headers")
	b.request("A header that is not named may hold anything.", from("web"), ask("GET", "/", "x-request-id", "1", "x-other", "a\x00b"), "request-headers")
	for _, h := range [][]string{
		{"x-a", "1", "x-b", "2"}, {"x-a", "1"}, {"x-b", "2"}, {"x-a", "2", "x-b", "1"}, {"x-b", "2", "x-a", "1"}, {},
	} {
		b.request("All conditions on headers must hold.", from("two"), ask("GET", "/", h...))
	}
	for _, v := range []string{"12", "1", "2", "1,2", "21"} {
		b.request("Two conditions may look at one header.", from("same"), ask("GET", "/", "x-a", v))
	}
	b.request("The values are joined before they are compared.", from("same"), ask("GET", "/", "x-a", "1", "x-a", "2"), "multi-value-header")
	return []*builder{b}
}

// l7Illegible is about values that no two readers need to understand alike.
func l7Illegible() []*builder {
	b := fromRows("l7-illegible", "db", trustDomain, allowByDefault, rows(
		`web > db {"Action":"deny","HTTP":{"PathPrefix":"/v1/","Header":[{"Name":"x-a","Exact":"1"},{"Name":"x-b","Present":true}]}} {"Action":"allow","HTTP":{"PathPrefix":"/"}}`,
		`host > db {"Action":"allow","HTTP":{"Header":[{"Name":"host","Present":true}]}}`,
	), "header")
	for _, v := range []string{"a\x00", "\x01", "a\nb", "a\rb", "\x1b[1m", "a\x7f", "a\x0b"} {
		b.request("A control byte in a value that is looked at.", from("web"), ask("GET", "/v1/x", "x-a", v), "control-byte")
		b.request("A control byte in the authority.", from("host"), ask("GET", "/", "host", "a"+v), "control-byte", "host-header")
	}
	b.request("A tab is no control byte in a value.", from("web"), ask("GET", "/v1/x", "x-a", "a\tb"))
	b.request("Text beyond ASCII is legible in a value.", from("web"), ask("GET", "/v1/x", "x-a", "é"))
	b.request("A path that does not match leaves the headers alone.", from("web"), ask("GET", "/v2/x", "x-a", "\x00"), "control-byte")
	b.request("A condition that fails leaves later headers alone.", from("web"), ask("GET", "/v1/x", "x-a", "2", "x-b", "\x00"), "control-byte")
	b.request("A later condition is looked at where the first ones hold.", from("web"), ask("GET", "/v1/x", "x-a", "1", "x-b", "\x00"), "control-byte")
	b.request("A control byte in any of several values.", from("web"), ask("GET", "/v1/x", "x-a", "1", "x-a", "\x00"), "control-byte", "multi-value-header")
	for _, n := range []int{8191, 8192, 8193, 65536} {
		r := get("/v1/x")
		r.Headers["x-a"] = []text{repeat("v", n)}
		b.request(fmt.Sprintf("A value of %d bytes; the limit is 8192.", n), from("web"), r, "oversized")
		r = get("/v1/x")
		r.Headers["x-a"] = []text{repeat("v", n-2), plain("w")}
		b.request(fmt.Sprintf("Two values that are %d bytes joined; the limit is 8192.", n), from("web"), r, "oversized", "multi-value-header")
		r = get("/")
		r.Headers["host"] = []text{repeat("h", n)}
		b.request(fmt.Sprintf("An authority of %d bytes; the limit is 8192.", n), from("host"), r, "oversized", "host-header")
	}
	return []*builder{b}
}

// l7Underscores is about what the mesh does to header names with underscores.
func l7Underscores() []*builder {
	var out []*builder
	for _, word := range []string{"allow", "reject", "drop"} {
		b := normalized(fromRows("l7-underscore-"+word, "db", trustDomain, denyByDefault, rows(
			`exact > db {"Action":"allow","HTTP":{"Header":[{"Name":"x_tier","Exact":"gold"}]}}`,
			`absent > db {"Action":"allow","HTTP":{"Header":[{"Name":"x_tier","Present":true,"Invert":true}]}}`,
			`dash > db {"Action":"allow","HTTP":{"Header":[{"Name":"x-tier","Exact":"gold"}]}}`,
			`deny > db {"Action":"deny","HTTP":{"Header":[{"Name":"x_tier","Present":true}]}} {"Action":"allow","HTTP":{"PathPrefix":"/"}}`,
			"action > db allow",
		)), func(n *intentions.Normalization) { n.Underscores = word }, "underscore", "header", "normalization")
		for _, source := range []string{"exact", "absent", "dash", "deny", "action"} {
			for _, h := range [][]string{
				{"x_tier", "gold"}, {"X_Tier", "gold"}, {"x-tier", "gold"}, {}, {"x_other", "1"}, {"x-tier", "gold", "x_tier", "gold"}, {"x_tier", ""},
			} {
				b.request(fmt.Sprintf("The headers are %q and the mesh says %s.", h, word), from(source), ask("GET", "/", h...))
			}
		}
		b.next(&out)
	}
	return out
}

// normalized gives a group's policy another normalization.
func normalized(b *builder, change func(*intentions.Normalization), flags ...string) *builder {
	var p intentions.Policy
	if err := json.Unmarshal(b.Policy, &p); err != nil {
		panic(err)
	}
	change(&p.Normalization)
	out := newBuilder(b.topic, &p, append(b.flags, flags...)...)
	out.Intentions, out.consul = b.Intentions, b.consul
	return out
}

// l7Random draws permissions and requests among few words, so that they meet.
func l7Random() []*builder {
	r := rand.New(rand.NewPCG(7, 7))
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	condition := func() string {
		var parts []string
		if r.IntN(3) > 0 {
			parts = append(parts, one(`"PathPrefix":"/a"`, `"PathPrefix":"/"`, `"PathExact":"/a/b"`, `"PathRegex":"/a(/b)?"`, `"PathRegex":"/[^/]*"`))
		}
		if r.IntN(2) > 0 {
			parts = append(parts, one(`"Methods":["GET"]`, `"Methods":["GET","HEAD"]`, `"Methods":["POST","PUT","DELETE"]`))
		}
		if len(parts) == 0 || r.IntN(2) > 0 {
			parts = append(parts, one(
				`"Header":[{"Name":"x","Exact":"1"}]`, `"Header":[{"Name":"x","Present":true,"Invert":true}]`,
				`"Header":[{"Name":"x","Prefix":"a","Invert":true}]`, `"Header":[{"Name":"y","Contains":"B","IgnoreCase":true}]`,
				`"Header":[{"Name":"x","Regex":"[0-9]+"},{"Name":"y","Present":true}]`))
		}
		return fmt.Sprintf(`{"Action":"%s","HTTP":{%s}}`, one("allow", "deny"), strings.Join(parts, ","))
	}
	var out []*builder
	for i := range 25 {
		var list []string
		for range 1 + r.IntN(4) {
			list = append(list, condition())
		}
		b := fromRows(fmt.Sprintf("l7-random-%02d", i), "db", trustDomain, fallback{one("allow", "deny"), "acl"},
			rows("web > db "+strings.Join(list, " "), "* > db "+one("allow", "deny", condition())), "random")
		for range 8 {
			q := ask(one("GET", "HEAD", "POST", "get"), one("/a", "/a/b", "/", "/b", "/a/b/c", "/a?x=/b", "/A"))
			if r.IntN(2) > 0 {
				q.Headers["x"] = []text{plain(one("1", "a", "22", ""))}
			}
			if r.IntN(2) > 0 {
				q.Headers["y"] = []text{plain(one("abc", "ABC", "", "c"))}
			}
			b.request("Permissions and a request drawn at random among few words.", from(one("web", "web", "other")), q)
		}
		b.next(&out)
	}
	return out
}
