package intentions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Intention is one rule source -> destination as Consul's intention routes
// list it (GET /v1/connect/intentions/match). Fields that do not take part in
// a decision are left to the raw row.
type Intention struct {
	ID                   string
	SourcePartition      string
	SourceNS             string
	SourceName           string
	SourcePeer           string
	SourceSamenessGroup  string
	SourceType           string
	DestinationPartition string
	DestinationNS        string
	DestinationName      string
	Action               string
	Permissions          []json.RawMessage
	JWT                  json.RawMessage
	Precedence           int
	ModifyIndex          uint64
	// Unknown names the members that this version does not know. Such an
	// intention is matched and then denied, because what it demands is unknown.
	Unknown []string `json:"-"`
}

// The members of an intention that take no part in a decision.
var inertMembers = map[string]bool{
	"Description": true, "Meta": true, "DefaultAddr": true, "DefaultPort": true,
	"CreatedAt": true, "UpdatedAt": true, "Hash": true, "CreateIndex": true,
}

var knownMembers = map[string]bool{
	"ID": true, "SourcePartition": true, "SourceNS": true, "SourceName": true,
	"SourcePeer": true, "SourceSamenessGroup": true, "SourceType": true,
	"DestinationPartition": true, "DestinationNS": true, "DestinationName": true,
	"Action": true, "Permissions": true, "JWT": true, "Precedence": true, "ModifyIndex": true,
}

// ParseIntentions parses the array of rows that Consul gives for one
// destination and puts them in deciding order. A null or absent array means
// no intentions. One bad row fails all: a skipped deny would widen access.
func ParseIntentions(raw []byte) ([]Intention, error) {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil, nil
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(raw, &rows); err != nil {
		return nil, fmt.Errorf("parse intentions: %w", err)
	}
	out := make([]Intention, len(rows))
	for i, row := range rows {
		if err := out[i].parse(row); err != nil {
			return nil, fmt.Errorf("parse intention %d: %w", i, err)
		}
	}
	slices.SortStableFunc(out, compareIntentions)
	return out, nil
}

func (x *Intention) parse(row []byte) error {
	if err := json.Unmarshal(row, x); err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(row, &members); err != nil {
		return err
	}
	for name := range members {
		if !knownMembers[name] && !inertMembers[name] {
			x.Unknown = append(x.Unknown, name)
		}
	}
	slices.Sort(x.Unknown)
	if x.SourceName == "" || x.DestinationName == "" {
		return fmt.Errorf("source or destination is missing")
	}
	if bytes.Equal(x.JWT, []byte("null")) {
		x.JWT = nil
	}
	return x.checkAction()
}

func (x *Intention) checkAction() error {
	switch x.Action {
	case "allow", "deny":
		return nil
	case "":
		// Consul leaves the action out where there are permissions; without
		// either, a missing action denies.
		return nil
	}
	return fmt.Errorf("unknown action %q", x.Action)
}

// Source returns the intention's source; empty parts mean the default ones.
func (x *Intention) Source() Service {
	return Service{
		Partition: strings.ToLower(orDefault(x.SourcePartition)),
		Namespace: orDefault(x.SourceNS),
		Name:      x.SourceName,
	}
}

// Destination returns the intention's destination in its written spelling.
func (x *Intention) Destination() Service {
	return Service{
		Partition: strings.ToLower(orDefault(x.DestinationPartition)),
		Namespace: orDefault(x.DestinationNS),
		Name:      x.DestinationName,
	}
}

// HasPermissions reports whether the intention has an L7 part.
func (x *Intention) HasPermissions() bool { return len(x.Permissions) > 0 }

// ConsulAllows is the agent's L4 verdict on a caller that the intention
// matches: permissions always deny, JWT requirements are not looked at.
func (x *Intention) ConsulAllows() bool { return !x.HasPermissions() && x.Action == "allow" }

// String describes the intention in the words of the agent's authorize answer.
func (x *Intention) String() string {
	var b strings.Builder
	switch {
	case x.SourcePeer != "":
		b.WriteString("peer(" + x.SourcePeer + ")/")
	case x.SourceSamenessGroup != "":
		b.WriteString("sameness-group(" + x.SourceSamenessGroup + ")/")
	case x.SourcePartition != "":
		b.WriteString(x.SourcePartition + "/")
	}
	b.WriteString(orDefault(x.SourceNS) + "/" + x.SourceName + " => ")
	if x.DestinationPartition != "" {
		b.WriteString(x.DestinationPartition + "/")
	}
	b.WriteString(orDefault(x.DestinationNS) + "/" + x.DestinationName + " (")
	if x.ID != "" {
		b.WriteString("ID: " + x.ID + ", ")
	}
	if x.HasPermissions() {
		fmt.Fprintf(&b, "Precedence: %d, Permissions: %d)", x.Precedence, len(x.Permissions))
	} else {
		fmt.Fprintf(&b, "Precedence: %d, Action: %s)", x.Precedence, strings.ToUpper(x.Action))
	}
	return b.String()
}

// compareIntentions puts intentions in deciding order: precedence downwards,
// ties by name upwards, as Consul sorts them. Consul keeps no two intentions of
// the same ends; should it ever, the one that allows less comes first, and the
// order does not depend on how the rows arrived.
func compareIntentions(a, b Intention) int {
	if c := compareEnds(&a, &b); c != 0 {
		return c
	}
	if c := cmp.Compare(a.permissiveness(), b.permissiveness()); c != 0 {
		return c
	}
	return cmp.Compare(a.identity(), b.identity())
}

// permissiveness is 0 for what denies, 1 for what has to see requests and 2 for
// what allows.
func (x *Intention) permissiveness() int {
	switch r := newRule(0, x); {
	case r.Reason != "":
		return 0
	case x.HasPermissions():
		return 1
	case r.Action == "allow":
		return 2
	}
	return 0
}

func compareEnds(a, b *Intention) int {
	return cmp.Or(
		cmp.Compare(b.Precedence, a.Precedence),
		cmp.Compare(a.SourceSamenessGroup, b.SourceSamenessGroup),
		cmp.Compare(a.SourcePeer, b.SourcePeer),
		cmp.Compare(orDefault(a.SourcePartition), orDefault(b.SourcePartition)),
		cmp.Compare(a.SourceNS, b.SourceNS),
		cmp.Compare(a.SourceName, b.SourceName),
		cmp.Compare(orDefault(a.DestinationPartition), orDefault(b.DestinationPartition)),
		cmp.Compare(a.DestinationNS, b.DestinationNS),
		cmp.Compare(a.DestinationName, b.DestinationName),
	)
}

// Precedence returns Consul's number for an intention between two services:
// 9 for two exact names, 1 for two wildcards in wildcard namespaces.
func Precedence(source, destination Service) int {
	return 3*exactness(destination) + exactness(source) + 1
}

// exactness is 2 for a name, 1 for a wildcard in one namespace, 0 for all.
func exactness(s Service) int {
	switch {
	case s.Name != Wildcard:
		return 2
	case s.Namespace != Wildcard:
		return 1
	}
	return 0
}

func orDefault(part string) string {
	if part == "" {
		return DefaultPart
	}
	return part
}
