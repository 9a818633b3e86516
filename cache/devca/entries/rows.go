package entries

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/connectd/connectd/intentions"
)

// Row is an intention as Consul's match route lists it, with its members in
// Consul's order.
type Row struct {
	Description     string `json:",omitempty"`
	SourceNS        string
	SourceName      string
	DestinationNS   string
	DestinationName string
	SourcePeer      string `json:",omitempty"`
	SourceType      string
	Action          string            `json:",omitempty"`
	Permissions     []Permission      `json:",omitempty"`
	JWT             *JWT              `json:",omitempty"`
	Meta            map[string]string `json:",omitempty"`
	Precedence      int
	CreateIndex     uint64
	ModifyIndex     uint64
}

// Rows returns the entry's intentions. All of them share the entry's indexes.
func (e *Entry) Rows(createIndex, modifyIndex uint64) []Row {
	rows := make([]Row, len(e.Sources))
	for i, s := range e.Sources {
		rows[i] = Row{
			Description:     s.Description,
			SourceNS:        intentions.DefaultPart,
			SourceName:      s.Name,
			DestinationNS:   intentions.DefaultPart,
			DestinationName: e.Name,
			SourcePeer:      s.Peer,
			SourceType:      "consul",
			Action:          s.Action,
			Permissions:     s.Permissions,
			JWT:             e.JWT,
			Meta:            e.Meta,
			Precedence:      intentions.Precedence(intentions.NewService(s.Name), intentions.NewService(e.Name)),
			CreateIndex:     createIndex,
			ModifyIndex:     modifyIndex,
		}
	}
	return rows
}

// Covers reports whether the entry's intentions concern a destination: its
// name without regard to case, or every name.
func (e *Entry) Covers(destination intentions.Service) bool {
	return destination.InDefaultParts() && (e.Name == wildcard || strings.EqualFold(e.Name, destination.Name))
}

// Encode writes rows in deciding order as the match route does: an array, or
// null for none.
func Encode(rows []Row) (json.RawMessage, error) {
	list := make([]json.RawMessage, len(rows))
	for i := range rows {
		raw, err := json.Marshal(&rows[i])
		if err != nil {
			return nil, fmt.Errorf("encode intention: %w", err)
		}
		list[i] = raw
	}
	return encodeOrdered(list)
}

// Overlay returns the rows of a destination as they would be if the entries
// were written: each replaces the entry of its name, without regard to case,
// and leaves all others alone.
func (x Entries) Overlay(current json.RawMessage, destination intentions.Service) (json.RawMessage, error) {
	var list []json.RawMessage
	if len(current) > 0 {
		if err := json.Unmarshal(current, &list); err != nil {
			return nil, fmt.Errorf("overlay intentions: %w", err)
		}
	}
	for i := range x.Intentions {
		e := &x.Intentions[i]
		if !e.Covers(destination) {
			continue
		}
		var err error
		if list, err = withoutDestination(list, e.Name); err != nil {
			return nil, err
		}
		for _, row := range e.Rows(0, 0) {
			raw, err := json.Marshal(row)
			if err != nil {
				return nil, fmt.Errorf("overlay intentions: %w", err)
			}
			list = append(list, raw)
		}
	}
	return encodeOrdered(list)
}

func withoutDestination(list []json.RawMessage, name string) ([]json.RawMessage, error) {
	var kept []json.RawMessage
	for _, raw := range list {
		k, err := parseRowKey(raw)
		if err != nil {
			return nil, err
		}
		if !strings.EqualFold(k.DestinationName, name) {
			kept = append(kept, raw)
		}
	}
	return kept, nil
}

// rowKey is what decides a row's place among the others.
type rowKey struct {
	Precedence      int
	SourcePeer      string
	SourceName      string
	DestinationName string
}

func parseRowKey(raw json.RawMessage) (rowKey, error) {
	var k rowKey
	if err := json.Unmarshal(raw, &k); err != nil {
		return k, fmt.Errorf("read intention: %w", err)
	}
	return k, nil
}

func compareRowKeys(a, b rowKey) int {
	return cmp.Or(
		cmp.Compare(b.Precedence, a.Precedence),
		cmp.Compare(a.SourcePeer, b.SourcePeer),
		cmp.Compare(a.SourceName, b.SourceName),
		cmp.Compare(a.DestinationName, b.DestinationName),
	)
}

func encodeOrdered(list []json.RawMessage) (json.RawMessage, error) {
	if len(list) == 0 {
		return json.RawMessage("null"), nil
	}
	type keyed struct {
		key rowKey
		raw json.RawMessage
	}
	rows := make([]keyed, len(list))
	for i, raw := range list {
		key, err := parseRowKey(raw)
		if err != nil {
			return nil, err
		}
		rows[i] = keyed{key, raw}
	}
	slices.SortStableFunc(rows, func(a, b keyed) int { return compareRowKeys(a.key, b.key) })
	for i := range rows {
		list[i] = rows[i].raw
	}
	return json.Marshal(list)
}
