package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

func l4File(root string) (*vectorFile, error) {
	f := &vectorFile{
		schema: "l4.schema.json",
		about:  "Decisions on connections: who may connect to the policy's destination. A rule with permissions answers per_request.",
	}
	for _, part := range [][]*builder{
		l4Precedence(), l4Defaults(), l4Names(), l4TrustDomains(), l4Places(),
		l4Unsupported(), l4Invalid(), l4PerRequest(), l4Large(), l4Random(),
	} {
		f.add(part)
	}
	recorded, err := l4Recorded(root)
	f.add(recorded)
	return f, err
}

func (f *vectorFile) add(part []*builder) {
	for _, b := range part {
		f.groups = append(f.groups, &b.group)
	}
}

// l4Precedence has every set of the four intentions that Community Edition
// can have for one pair of names.
func l4Precedence() []*builder {
	var out []*builder
	pairs := []string{"web > db", "* > db", "web > *", "* > *"}
	for number := range 81 {
		var lines []string
		for i, n := 0, number; i < 4; i, n = i+1, n/3 {
			if n%3 > 0 {
				lines = append(lines, pairs[i]+" "+[]string{"", "allow", "deny"}[n%3])
			}
		}
		for _, d := range []fallback{denyByDefault, allowByDefault} {
			b := fromRows(fmt.Sprintf("l4-precedence-%02d-%s", number, d.action), "db", trustDomain, d, rows(lines...), "precedence")
			with := "no intention"
			if lines != nil {
				with = strings.Join(lines, ", ")
			}
			b.connect("The source that is named, with "+with+".", from("web"), wildcardIf(lines))
			b.connect("Another source, with "+with+".", from("other"), wildcardIf(lines))
			out = append(out, b)
		}
	}
	return out
}

func wildcardIf(lines []string) string {
	if strings.Contains(strings.Join(lines, " "), "*") {
		return "wildcard"
	}
	return ""
}

func l4Defaults() []*builder {
	var out []*builder
	for _, origin := range []string{"config", "agent", "acl", "unknown"} {
		for _, action := range []string{"allow", "deny"} {
			d := fallback{action, origin}
			b := fromRows("l4-default-"+origin+"-"+action, "db", trustDomain, d, nil, "default-action")
			b.connect("No intention at all, so the default action applies whatever its origin.", from("web"))
			b.next(&out)
			b = fromRows("l4-default-"+origin+"-"+action+"-other", "db", trustDomain, d, rows("api > db deny", "job > db allow"), "default-action")
			b.connect("Only other sources have intentions, so the default action applies.", from("web"))
			b.connect("A denied source is denied whatever the default action.", from("api"))
			b.connect("An allowed source is allowed whatever the default action.", from("job"))
			b.next(&out)
		}
	}
	return out
}

// next appends the group to a list.
func (b *builder) next(list *[]*builder) { *list = append(*list, b) }

// l4Names is about names that are almost equal.
func l4Names() []*builder {
	names := []string{
		"web", "Web", "WEB", "we", "webs", "web-1", "web.1", "web_1", "-web", "web-", "w", "0", "web.default", "a.b.c", "---", "__", "...",
	}
	var out []*builder
	for i, name := range names {
		b := fromRows(fmt.Sprintf("l4-name-%02d", i), "db", trustDomain, denyByDefault, rows(name+" > db allow"), "name")
		for _, source := range names {
			comment, flag := fmt.Sprintf("The rule names %q and the source is %q.", name, source), ""
			if strings.EqualFold(name, source) && name != source {
				flag = "case"
			}
			if strings.EqualFold(name, source) || strings.HasPrefix(name, source) || strings.HasPrefix(source, name) {
				b.connect(comment, from(source), flag)
			}
		}
		b.next(&out)
	}
	long := fromRows("l4-name-long", "db", trustDomain, denyByDefault, rows(strings.Repeat("n", 253)+" > db allow", strings.Repeat("n", 252)+" > db deny"), "name", "oversized")
	long.connect("The longest name.", join(from(""), repeat("n", 253)))
	long.connect("A name one byte shorter.", join(from(""), repeat("n", 252)))
	long.connect("A name one byte too long.", join(from(""), repeat("n", 254)), "malformed")
	long.next(&out)
	star := fromRows("l4-name-star", "db", trustDomain, denyByDefault, rows("* > db allow", "a* > db deny", "*b > db deny"), "name", "wildcard")
	star.connect("A star stands for all names only where it stands alone.", from("ab"))
	star.connect("A star in a source is not a name.", from("a*"), "malformed")
	star.connect("A star alone is not a source.", from("*"), "malformed")
	star.next(&out)
	odd := fromRows("l4-name-odd", "db", trustDomain, allowByDefault, rows("a/b > db deny", "a%b > db deny", "é > db deny", "web > db allow"), "name")
	odd.connect("Rules with names that no SPIFFE ID can carry change nothing for others.", from("web"))
	odd.connect("Rules with names that no SPIFFE ID can carry change nothing for the default.", from("a"))
	odd.next(&out)
	return append(out, l4DestinationCase()...)
}

// l4DestinationCase has an intention whose destination is spelled otherwise.
func l4DestinationCase() []*builder {
	var out []*builder
	for _, spelled := range []string{"DB", "Db", "db"} {
		list := rows("web > "+spelled+" allow", "Web > "+spelled+" deny", "* > * deny")
		b := fromRows("l4-destination-case-"+spelled, "db", trustDomain, denyByDefault, list, "case")
		b.connect("Consul finds the intentions of a destination without regard to case.", from("web"))
		b.connect("Sources are compared with regard to case.", from("Web"))
		b.connect("A third spelling is a third source.", from("wEB"), "wildcard")
		b.next(&out)
	}
	return out
}

func l4TrustDomains() []*builder {
	domains := []string{
		trustDomain, strings.ToUpper(trustDomain), "other.consul", "x." + trustDomain, trustDomain + ".x",
		trustDomain[:len(trustDomain)-1], trustDomain + "x", trustDomain + ".", strings.Replace(trustDomain, "-", "_", 1),
		"localhost", "11111111-2222-3333-4444-555555555555.CONSUL",
	}
	var out []*builder
	for _, d := range []fallback{denyByDefault, allowByDefault} {
		for i, lines := range [][]string{nil, {"web > db allow"}, {"* > * allow"}, {"web > db deny", "* > * allow"}} {
			b := fromRows(fmt.Sprintf("l4-trust-domain-%d-%s", i, d.action), "db", trustDomain, d, rows(lines...), "trust-domain")
			for _, domain := range domains {
				b.connect(fmt.Sprintf("The source's trust domain is %q.", domain), plain("spiffe://"+domain+"/ns/default/dc/dc1/svc/web"))
			}
			b.next(&out)
		}
	}
	upper := fromRows("l4-trust-domain-upper", "db", "TD.Consul", denyByDefault, rows("web > db allow"), "trust-domain", "case")
	for _, domain := range []string{"td.consul", "TD.CONSUL", "TD.Consul", "td.consul2"} {
		upper.connect("The policy spells its trust domain in mixed case.", plain("spiffe://"+domain+"/ns/default/dc/dc1/svc/web"))
	}
	upper.next(&out)
	dc := fromRows("l4-datacenter", "db", trustDomain, denyByDefault, rows("web > db allow", "* > db deny"), "datacenter")
	for _, name := range []string{"dc1", "dc2", "DC1", "x", "d.c"} {
		dc.connect("The datacenter of a source takes no part.", plain("spiffe://"+trustDomain+"/ns/default/dc/"+name+"/svc/web"))
	}
	dc.next(&out)
	return out
}

// l4Places is about partitions and namespaces, which Community Edition lacks.
func l4Places() []*builder {
	place := func(partition, namespace, name, action string) row {
		r := row{
			SourcePartition: partition, SourceNS: namespace, SourceName: name, SourceType: "consul",
			DestinationNS: "default", DestinationName: "db", Action: action,
		}
		r.Precedence = precedence(r)
		return r
	}
	lists := map[string][]row{
		"a-exact":       {place("", "shop", "web", "allow"), place("", "default", "web", "deny")},
		"b-namespace":   {place("", "shop", "*", "allow"), place("", "*", "*", "deny")},
		"c-everything":  {place("", "*", "*", "allow")},
		"d-partition":   {place("team", "default", "web", "allow"), place("Other", "default", "web", "allow")},
		"e-all-of-team": {place("team", "*", "*", "allow"), place("", "*", "*", "deny")},
		"f-deny-one":    {place("", "shop", "web", "deny"), place("", "shop", "*", "allow"), place("", "*", "*", "deny")},
		"g-case":        {place("", "Shop", "web", "allow"), place("TEAM", "Shop", "web", "allow")},
		"h-any-ns-name": {place("", "default", "*", "allow")},
	}
	var out []*builder
	for _, name := range sortedKeys(lists) {
		for _, d := range []fallback{denyByDefault, allowByDefault} {
			b := fromRows("l4-place-"+name+"-"+d.action, "db", trustDomain, d, lists[name], "enterprise", "namespace")
			for _, partition := range []string{"", "default", "team", "TEAM", "other", "OTHER"} {
				for _, namespace := range []string{"default", "shop", "Shop", "*"} {
					b.place(partition, namespace)
				}
			}
			b.next(&out)
		}
	}
	return out
}

func (b *builder) place(partition, namespace string) {
	ap := ""
	if partition != "" {
		ap = "/ap/" + partition
	}
	flag := ""
	if namespace == "*" {
		if partition != "" {
			return
		}
		flag = "malformed"
	}
	b.connect(fmt.Sprintf("A source in partition %q and namespace %q.", partition, namespace),
		plain("spiffe://"+trustDomain+ap+"/ns/"+namespace+"/dc/dc1/svc/web"), flag)
}

// l4Unsupported is about intentions that cannot be judged, which deny, and
// those of peers, which never match.
func l4Unsupported() []*builder {
	change := func(line string, f func(*row)) row {
		r := rows(line)[0]
		f(&r)
		return r
	}
	jwt := json.RawMessage(`{"Providers":[{"Name":"okta"}]}`)
	path := `{"Action":"allow","HTTP":{"PathPrefix":"/"}`
	lists := map[string][]row{
		"jwt":            {change("web > db allow", func(r *row) { r.JWT = jwt })},
		"jwt-deny":       {change("web > db deny", func(r *row) { r.JWT = jwt })},
		"jwt-null":       {change("web > db allow", func(r *row) { r.JWT = json.RawMessage("null") })},
		"jwt-permission": {change("web > db "+path+`,"JWT":{"Providers":[{"Name":"okta"}]}}`, func(*row) {})},
		"sameness-group": {change("web > db allow", func(r *row) { r.SourceSamenessGroup = "friends" })},
		"source-type":    {change("web > db allow", func(r *row) { r.SourceType = "external" })},
		"unknown-member": {change("web > db allow", func(r *row) { r.Future = "x" })},
		"both":           {change("web > db "+path+"}", func(r *row) { r.Action = "allow" })},
		"neither":        {change("web > db allow", func(r *row) { r.Action = "" })},
		"permission-future": {change("web > db "+path+`,"Future":1}`, func(*row) {}),
			change("* > db allow", func(*row) {})},
		"http-future":   {change(`web > db {"Action":"allow","HTTP":{"PathPrefix":"/","Future":true}}`, func(*row) {})},
		"header-future": {change(`web > db {"Action":"allow","HTTP":{"Header":[{"Name":"x","Future":"y"}]}}`, func(*row) {})},
		"peer":          {change("web > db allow", func(r *row) { r.SourcePeer = "cloud" })},
		"peer-deny":     {change("web > db deny", func(r *row) { r.SourcePeer = "cloud" })},
		"peer-and-own":  {change("web > db deny", func(r *row) { r.SourcePeer = "cloud" }), change("web > db allow", func(*row) {})},
	}
	flags := map[string]string{"jwt-null": "jwt", "peer": "peer", "peer-deny": "peer", "peer-and-own": "peer", "neither": "malformed"}
	var out []*builder
	for _, name := range sortedKeys(lists) {
		for _, d := range []fallback{denyByDefault, allowByDefault} {
			flag := flags[name]
			if flag == "" {
				flag = "unsupported"
			}
			b := fromRows("l4-"+flag+"-"+name+"-"+d.action, "db", trustDomain, d, lists[name], flag)
			b.connect("The source that the intention names.", from("web"))
			b.connect("Another source, which it does not name.", from("other"))
			b.next(&out)
		}
	}
	return out
}

func l4Invalid() []*builder {
	var out []*builder
	open := fromRows("l4-invalid-source", "db", trustDomain, allowByDefault, rows("* > * allow"), "malformed")
	for _, s := range listedIDs() {
		uri := strings.ReplaceAll(s.uri.String(), "td.consul", trustDomain)
		if s.flag == "path" || s.flag == "escape" || s.flag == "suffix" || s.flag == "authority" || s.flag == "scheme" || s.flag == "kind" {
			open.connect(s.comment, plain(uri))
		}
	}
	return append(out, open)
}

func l4PerRequest() []*builder {
	l7 := `{"Action":"allow","HTTP":{"PathPrefix":"/"}}`
	lists := [][]string{
		{"web > db " + l7},
		{"* > db " + l7},
		{"web > db " + l7, "* > db deny"},
		{"web > db allow", "* > db " + l7},
		{"web > db deny", "* > db " + l7},
		{"* > db " + l7, "web > * allow", "* > * deny"},
		{"web > db " + strings.Replace(l7, "allow", "deny", 1), "* > * allow"},
		{`web > db {"Action":"deny","HTTP":{"Methods":["DELETE"]}} ` + l7, "* > db allow"},
	}
	var out []*builder
	for i, lines := range lists {
		for _, d := range []fallback{denyByDefault, allowByDefault} {
			b := fromRows(fmt.Sprintf("l4-per-request-%d-%s", i, d.action), "db", trustDomain, d, rows(lines...), "per-request")
			b.connect("The source that is named.", from("web"))
			b.connect("Another source.", from("other"))
			b.next(&out)
		}
	}
	return out
}

func l4Large() []*builder {
	var lines []string
	for i := range 300 {
		lines = append(lines, fmt.Sprintf("s%03d > db %s", i, []string{"allow", "deny"}[i%2]))
	}
	lines = append(lines, "* > db deny", "s001 > * allow", "* > * allow")
	b := fromRows("l4-large", "db", trustDomain, allowByDefault, rows(lines...), "large")
	for i := 0; i < 300; i += 13 {
		b.connect("One name among 300.", from(fmt.Sprintf("s%03d", i)))
	}
	for _, name := range []string{"s1", "s0011", "S001", "s300", "other"} {
		b.connect("A name that is not among 300.", from(name), "wildcard")
	}
	return []*builder{b}
}

// l4Random draws intentions among few names, so that they meet.
func l4Random() []*builder {
	r := rand.New(rand.NewPCG(5, 8))
	names := []string{"a", "b", "c", "A", "*"}
	var out []*builder
	for i := range 30 {
		seen := map[string]bool{}
		var lines []string
		for range 1 + r.IntN(7) {
			pair := names[r.IntN(5)] + " > " + []string{"db", "*"}[r.IntN(2)]
			if !seen[pair] {
				lines = append(lines, pair+" "+[]string{"allow", "deny"}[r.IntN(2)])
			}
			seen[pair] = true
		}
		b := fromRows(fmt.Sprintf("l4-random-%02d", i), "db", trustDomain, []fallback{denyByDefault, allowByDefault}[r.IntN(2)], rows(lines...), "random")
		for _, name := range []string{"a", "b", "c", "A", "B", "d"} {
			b.connect("Intentions drawn at random among few names.", from(name), wildcardIf(lines))
		}
		b.next(&out)
	}
	return out
}
