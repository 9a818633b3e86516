package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/connectd/connectd/intentions"
)

// row is an intention as Consul lists it, without what takes no part.
type row struct {
	SourcePartition      string            `json:",omitempty"`
	SourceNS             string            `json:",omitempty"`
	SourceName           string            `json:",omitempty"`
	SourcePeer           string            `json:",omitempty"`
	SourceSamenessGroup  string            `json:",omitempty"`
	SourceType           string            `json:",omitempty"`
	DestinationPartition string            `json:",omitempty"`
	DestinationNS        string            `json:",omitempty"`
	DestinationName      string            `json:",omitempty"`
	Action               string            `json:",omitempty"`
	Permissions          []json.RawMessage `json:",omitempty"`
	JWT                  json.RawMessage   `json:",omitempty"`
	Precedence           int
	Future               string `json:",omitempty"`
}

// rows reads intentions for the destination db from lines such as
// "web > db allow"; permissions follow as JSON instead of an action.
func rows(lines ...string) []row {
	var out []row
	for _, line := range lines {
		f := strings.SplitN(line, " ", 4)
		if len(f) != 4 || f[1] != ">" {
			panic("not an intention: " + line)
		}
		r := row{
			SourceNS: "default", SourceName: f[0], SourceType: "consul",
			DestinationNS: "default", DestinationName: f[2],
		}
		if strings.HasPrefix(f[3], "{") {
			r.Permissions = permissionsOf(f[3])
		} else {
			r.Action = f[3]
		}
		r.Precedence = precedence(r)
		out = append(out, r)
	}
	return out
}

// permissionsOf splits JSON objects that stand behind each other.
func permissionsOf(s string) []json.RawMessage {
	var out []json.RawMessage
	d := json.NewDecoder(strings.NewReader(s))
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			panic(fmt.Sprintf("%s: %v", s, err))
		}
		out = append(out, raw)
	}
	return out
}

// precedence is the table of Consul's documentation.
func precedence(r row) int {
	place := func(namespace, name string) int {
		switch {
		case namespace == "*":
			return 0
		case name == "*":
			return 1
		}
		return 2
	}
	return [3][3]int{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}[place(r.DestinationNS, r.DestinationName)][place(r.SourceNS, r.SourceName)]
}

// fallback is a default action by its word and origin.
type fallback struct{ action, origin string }

var (
	denyByDefault  = fallback{"deny", intentions.OriginACL}
	allowByDefault = fallback{"allow", intentions.OriginACL}
)

// fromRows starts a group whose policy comes from intentions.
func fromRows(topic, destination, domain string, f fallback, list []row, flags ...string) *builder {
	raw := compact(list)
	if len(list) == 0 {
		raw = []byte("[]")
	}
	parsed, err := intentions.ParseIntentions(raw)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", topic, err))
	}
	p, _ := intentions.NewPolicy(intentions.NewService(destination), domain,
		intentions.DefaultAction{Allow: f.action == "allow", Origin: f.origin}, parsed)
	b := newBuilder(topic, p, flags...)
	b.Intentions = raw
	b.consul = func(source string) bool { return consulAllows(list, f, source) }
	return b
}

// consulAllows is the agent's authorize answer, its rules in a few
// lines: the best row without a peer whose source fits, and no look at trust
// domains or JWT.
func consulAllows(list []row, f fallback, source string) bool {
	id, err := intentions.ParseURI(source)
	if err != nil || id.Service.Partition != intentions.DefaultPart {
		return false
	}
	var best *row
	for i := range list {
		r := &list[i]
		fits := r.SourcePeer == "" && (r.SourceNS == "*" || r.SourceNS == id.Service.Namespace) &&
			(r.SourceName == "*" || r.SourceName == id.Service.Name)
		if fits && cmp.Or(r.SourcePartition, intentions.DefaultPart) == intentions.DefaultPart && (best == nil || r.Precedence > best.Precedence) {
			best = r
		}
	}
	if best == nil {
		return f.action == "allow"
	}
	return best.Action == "allow" && len(best.Permissions) == 0
}
