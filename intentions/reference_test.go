package intentions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// row is an intention as the reference sees it: members by name, and nothing
// of the code under test.
type row map[string]any

func (r row) text(name string) string {
	s, _ := r[name].(string)
	return s
}

func (r row) number(name string) float64 {
	n, _ := r[name].(float64)
	return n
}

func (r row) orDefault(name string) string {
	if s := r.text(name); s != "" {
		return s
	}
	return "default"
}

// matches looks at the source of a row alone.
func (r row) matches(id ID) bool {
	return r.text("SourcePeer") == "" &&
		strings.ToLower(r.orDefault("SourcePartition")) == id.Service.Partition &&
		(r.orDefault("SourceNS") == "*" || r.orDefault("SourceNS") == id.Service.Namespace) &&
		(r.text("SourceName") == "*" || r.text("SourceName") == id.Service.Name)
}

// before orders rows as CONSUL documents it, one rule after the other.
func (r row) before(other row) bool {
	if a, b := r.number("Precedence"), other.number("Precedence"); a != b {
		return a > b
	}
	for _, name := range []string{
		"SourceSamenessGroup", "SourcePeer", "SourcePartition", "SourceNS", "SourceName",
		"DestinationPartition", "DestinationNS", "DestinationName",
	} {
		a, b := r.text(name), other.text(name)
		if strings.HasSuffix(name, "Partition") {
			a, b = r.orDefault(name), other.orDefault(name)
		}
		if a != b {
			return a < b
		}
	}
	// Of two rows that differ in nothing else, the one that lets fewer pass.
	order := map[Outcome]int{Deny: 0, PerRequest: 1, Allow: 2}
	return order[r.outcome()] < order[other.outcome()]
}

var referenceMembers = strings.Fields("ID Description SourceNS SourceName SourcePartition SourcePeer SourceSamenessGroup SourceType " +
	"DestinationNS DestinationName DestinationPartition Action Permissions JWT Meta Precedence CreateIndex ModifyIndex " +
	"DefaultAddr DefaultPort CreatedAt UpdatedAt Hash")

// outcome is what a row says of a connection that it matches.
func (r row) outcome() Outcome {
	for name := range r {
		if !slices.Contains(referenceMembers, name) {
			return Deny
		}
	}
	if r.text("SourceSamenessGroup") != "" || r["JWT"] != nil {
		return Deny
	}
	if t := r.text("SourceType"); t != "" && t != "consul" {
		return Deny
	}
	permissions, _ := r["Permissions"].([]any)
	if len(permissions) == 0 {
		if r.text("Action") == "allow" {
			return Allow
		}
		return Deny
	}
	if r.text("Action") != "" {
		return Deny
	}
	for _, p := range permissions {
		if !judgeablePermission(p) {
			return Deny
		}
	}
	return PerRequest
}

// judgeablePermission knows the permissions that drawRowPermission can draw.
func judgeablePermission(p any) bool {
	text, _ := json.Marshal(p)
	return !bytes.Contains(text, []byte("odd"))
}

// decideSlowly is the reference: it looks at every row.
func decideSlowly(rows []row, trustDomain string, fallback Outcome, id ID) Outcome {
	if !strings.EqualFold(id.TrustDomain, trustDomain) {
		return Deny
	}
	var deciding row
	for _, r := range rows {
		if r.matches(id) && (deciding == nil || r.before(deciding)) {
			deciding = r
		}
	}
	if deciding == nil && id.Service.Partition != DefaultPart {
		return Deny
	}
	if deciding == nil {
		return fallback
	}
	return deciding.outcome()
}

// consulSlowly is the agent's own verdict: permissions deny, and what Consul
// does not look at here is not looked at.
func consulSlowly(list []Intention, fallback bool, id ID) bool {
	for i := range list {
		x := &list[i]
		s := x.Source()
		if x.SourcePeer == "" && s.Partition == id.Service.Partition && (s.Namespace == Wildcard || s.Namespace == id.Service.Namespace) &&
			(s.Name == Wildcard || s.Name == id.Service.Name) {
			return x.ConsulAllows()
		}
	}
	return fallback
}

const worldDomain = "td.consul"

func drawRowPermission(t *rapid.T) any {
	return rapid.SampledFrom([]any{
		row{"Action": "allow", "HTTP": row{"PathPrefix": "/"}},
		row{"Action": "deny", "HTTP": row{"PathRegex": "/a.*", "Methods": []string{"GET"}}},
		row{"Action": "allow", "HTTP": row{"Header": []any{row{"Name": "X-A", "Exact": "b"}}}},
		row{"Action": "allow", "HTTP": row{"PathPrefix": "/"}, "JWT": row{"Providers": []any{row{"Name": "odd"}}}},
		row{"Action": "allow", "HTTP": row{"PathOdd": "odd"}},
		row{"Action": "odd", "HTTP": row{"PathPrefix": "/"}},
		row{"Action": "allow", "odd": true, "HTTP": row{"PathPrefix": "/"}},
	}).Draw(t, "permission")
}

// drawRow draws one intention for the destination "db", as Consul writes it or
// close to it.
func drawRow(t *rapid.T) row {
	source := rapid.SampledFrom([]string{"*", "web", "api", "Web", "cron", "odd name"}).Draw(t, "source")
	destination := rapid.SampledFrom([]string{"db", "*", "DB"}).Draw(t, "destination")
	namespace := rapid.SampledFrom([]string{"default", "default", "default", "", "other", "*"}).Draw(t, "namespace")
	r := row{"SourceNS": namespace, "SourceName": source, "DestinationNS": "default", "DestinationName": destination}
	r["Precedence"] = float64(Precedence(Service{"", namespace, source}, NewService(destination)))
	action := rapid.SampledFrom([]string{"allow", "allow", "deny", ""}).Draw(t, "action")
	if action != "" {
		r["Action"] = action
	}
	odds := rapid.IntRange(0, 24).Draw(t, "odds")
	switch odds {
	case 0:
		r["SourcePeer"] = "cluster-b"
	case 1:
		r["SourceSamenessGroup"] = "group"
	case 2:
		r["JWT"] = row{"Providers": []any{row{"Name": "okta"}}}
	case 3:
		r["NewMember"] = 1.0
	case 4:
		r["SourceType"] = "vm"
	case 5:
		r["SourcePartition"] = rapid.SampledFrom([]string{"default", "DEFAULT", "other"}).Draw(t, "partition")
	case 6:
		r["Precedence"] = float64(rapid.IntRange(-1, 10).Draw(t, "precedence"))
	case 7, 8, 9, 10:
		delete(r, "Action")
		var list []any
		for range rapid.IntRange(1, 3).Draw(t, "permissions") {
			list = append(list, drawRowPermission(t))
		}
		r["Permissions"] = list
	case 11:
		r["Permissions"] = []any{drawRowPermission(t)}
	case 12:
		r["JWT"], r["Permissions"] = nil, nil
	case 13:
		r["Meta"], r["Description"], r["ModifyIndex"] = row{"a": "b"}, "text", 9.0
	}
	return r
}

func drawID(t *rapid.T) ID {
	return ID{
		TrustDomain: rapid.SampledFrom([]string{worldDomain, worldDomain, worldDomain, worldDomain, "TD.Consul", "other.consul"}).Draw(t, "td"),
		Service: Service{
			Partition: rapid.SampledFrom([]string{"default", "default", "default", "other"}).Draw(t, "ap"),
			Namespace: rapid.SampledFrom([]string{"default", "default", "default", "other", "Default"}).Draw(t, "ns"),
			Name:      rapid.SampledFrom([]string{"web", "api", "Web", "WEB", "cron", "stranger"}).Draw(t, "name"),
		},
		Datacenter: rapid.SampledFrom([]string{"dc1", "dc2"}).Draw(t, "dc"),
	}
}

func drawRows(t *rapid.T, label string) []row {
	return rapid.SliceOfN(rapid.Custom(drawRow), 0, 8).Draw(t, label)
}

// mustList parses rows as upstream would send them.
func mustList(t interface{ Fatalf(string, ...any) }, rows []row) []Intention {
	raw, err := json.Marshal(rows)
	if err != nil {
		t.Fatalf("encode %v: %v", rows, err)
	}
	list, err := ParseIntentions(raw)
	if err != nil {
		t.Fatalf("parse %s: %v", raw, err)
	}
	return list
}

func tableOf(list []Intention, fallback Outcome) *Table {
	p, _ := NewPolicy(NewService("db"), worldDomain, DefaultAction{Allow: fallback == Allow}, list)
	return Compile(p)
}

func TestDecideAgreesWithTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := drawRows(t, "rows")
		fallback := rapid.SampledFrom([]Outcome{Deny, Allow}).Draw(t, "default")
		list := mustList(t, rows)
		table := tableOf(list, fallback)
		again := tableOf(mustList(t, rapid.Permutation(rows).Draw(t, "shuffled")), fallback)
		for range 10 {
			id := drawID(t)
			want := decideSlowly(rows, worldDomain, fallback, id)
			got := table.Decide(id)
			if got.Outcome != want {
				t.Fatalf("%v: got %+v, the reference says %v", id, got, want)
			}
			if byURI := table.DecideURI(id.String(), nil); byURI != got {
				t.Fatalf("%v: got %+v by value and %+v by text", id, got, byURI)
			}
			if shuffled := again.Decide(id); shuffled != got {
				t.Fatalf("%v: got %+v, and %+v with the rows in another order", id, got, shuffled)
			}
			nobody := got.Reason == ReasonForeignTrustDomain ||
				got.Reason == ReasonUnsupported && id.Service.Partition != DefaultPart
			if (got.Reason == ReasonDefaultAction) != (got.Rule == 0 && !nobody) {
				t.Fatalf("%v: got %+v: a rule and the default action, or neither", id, got)
			}
			checkConsul(t, list, table, fallback == Allow, id)
		}
	})
}

// checkConsul compares the way of the compatible route, Match, with a walk
// over the intentions.
func checkConsul(t *rapid.T, list []Intention, table *Table, fallback bool, id ID) {
	_, rowOfRule := NewPolicy(NewService("db"), worldDomain, DefaultAction{}, list)
	got := fallback
	if n := table.Match(id.Service); n > 0 {
		got = list[rowOfRule[n-1]].ConsulAllows()
	}
	if want := consulSlowly(list, fallback, id); got != want {
		t.Fatalf("%v: got Consul's verdict %v, want %v", id, got, want)
	}
}

// ambiguousMembers reports rows that two JSON readers could understand
// differently: such text is not Consul's, and the reference has no say on it.
func ambiguousMembers(raw []byte) bool {
	var rows []json.RawMessage
	if json.Unmarshal(raw, &rows) != nil {
		return true
	}
	for _, one := range rows {
		seen := map[string]bool{}
		d := json.NewDecoder(bytes.NewReader(one))
		if first, err := d.Token(); err != nil || first != json.Delim('{') {
			return true
		}
		for d.More() {
			name, err := d.Token()
			text, ok := name.(string)
			folded := strings.ToLower(text)
			if err != nil || !ok || seen[folded] || slices.IndexFunc(referenceMembers, func(m string) bool { return m != text && strings.EqualFold(m, text) }) >= 0 {
				return true
			}
			seen[folded] = true
			var skipped json.RawMessage
			if d.Decode(&skipped) != nil {
				return true
			}
		}
	}
	return false
}

func FuzzParseIntentions(f *testing.F) {
	for _, seed := range []string{
		`null`, ``, `[]`, `[null]`, `[{}]`, `{}`, `[{"SourceName":"web","DestinationName":"db","Action":"allow","Precedence":9}]`,
		`[{"SourceNS":"default","SourceName":"*","DestinationNS":"default","DestinationName":"db","Action":"deny","Precedence":8},` +
			`{"SourceNS":"default","SourceName":"web","DestinationNS":"default","DestinationName":"db","Permissions":[{"Action":"allow","HTTP":{"PathPrefix":"/"}}],"Precedence":9}]`,
		`[{"SourceName":"web","DestinationName":"db","Action":"allow","JWT":{},"Precedence":9}]`,
		`[{"SourceName":"web","DestinationName":"db","Action":"allow","NewMember":1}]`,
		`[{"SourceName":"web","DestinationName":"db","Action":"allow","SourcePeer":"b"},{"SourceName":"web","DestinationName":"db","Action":"deny"}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ParseIntentions(raw)
		if err != nil || ambiguousMembers(raw) {
			return
		}
		var rows []row
		if err := json.Unmarshal(raw, &rows); err != nil {
			t.Fatalf("%s was parsed as intentions, and is no list: %v", raw, err)
		}
		sources := []Service{NewService("stranger"), NewService("web"), {"other", "other", "web"}}
		for i := range list {
			s := list[i].Source()
			sources = append(sources, s, Service{s.Partition, s.Namespace, "stranger"}, NewService(s.Name))
			_ = list[i].String()
		}
		for _, fallback := range []Outcome{Deny, Allow} {
			table := tableOf(list, fallback)
			for _, s := range sources {
				id := ID{TrustDomain: worldDomain, Service: s, Datacenter: "dc1"}
				if table.Decide(id).Allowed() && decideSlowly(rows, worldDomain, fallback, id) != Allow {
					t.Fatalf("%s allows %v by default %v, and the reference does not", raw, id, fallback)
				}
			}
		}
	})
}

// widens reports a step that lets somebody in further than before.
func widens(before, after Outcome) bool {
	rank := [...]int{Deny: 0, PerRequest: 1, Allow: 2}
	return rank[after] > rank[before]
}

// drawChange turns one set of rows into another, mostly in ways that narrow.
func drawChange(t *rapid.T, rows []row) []row {
	var after []row
	for i, r := range rows {
		switch rapid.IntRange(0, 9).Draw(t, fmt.Sprintf("fate %d", i)) {
		case 0:
		case 1:
			if r.text("Action") != "allow" {
				after = append(after, r)
			}
		default:
			after = append(after, r)
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "added") {
		r := drawRow(t)
		if rapid.IntRange(0, 3).Draw(t, "kind") > 0 {
			delete(r, "Permissions")
			r["Action"] = "deny"
		}
		after = append(after, r)
	}
	if len(after) > 0 {
		after = rapid.Permutation(after).Draw(t, "order")
	}
	return after
}

func TestNarrowsNeverWidens(t *testing.T) {
	said := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		rows := drawRows(t, "before")
		before, after := mustList(t, rows), mustList(t, drawChange(t, rows))
		narrows := Narrows(before, after)
		said[narrows]++
		if !Narrows(before, before) {
			t.Fatalf("no change at all is said to widen")
		}
		if !narrows {
			return
		}
		for _, fallback := range []Outcome{Deny, Allow} {
			was, is := tableOf(before, fallback), tableOf(after, fallback)
			for range 10 {
				id := drawID(t)
				if a, b := was.Decide(id), is.Decide(id); widens(a.Outcome, b.Outcome) {
					t.Fatalf("%v by default %v: from %+v to %+v", id, fallback, a, b)
				}
				if !consulSlowly(before, fallback == Allow, id) && consulSlowly(after, fallback == Allow, id) {
					t.Fatalf("%v by default %v: Consul's verdict turns to allow", id, fallback)
				}
			}
		}
	})
	if said[true] == 0 || said[false] == 0 {
		t.Errorf("got %v, want both answers among the worlds drawn", said)
	}
}
