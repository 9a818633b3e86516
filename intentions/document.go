package intentions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ParsePolicy reads a policy document. Unknown members are ignored, except
// inside rules: a rule with one is kept and denies, because what the member
// demands is unknown. A document that lacks what every version has is an error.
// Of a newer schema only the number is read: it denies everything.
func ParsePolicy(raw []byte) (*Policy, error) {
	var head struct{ Schema int }
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("parse policy: %w", err)
	}
	switch {
	case head.Schema < 1:
		return nil, errors.New("parse policy: no schema")
	case head.Schema > PolicySchema:
		return &Policy{Schema: head.Schema, DefaultAction: "deny"}, nil
	}
	p := Policy{Normalization: DefaultNormalization()}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("parse policy: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &p, nil
}

// check looks for what every policy must have.
func (p *Policy) check() error {
	switch {
	case !ValidName(p.TrustDomain):
		return fmt.Errorf("parse policy: trust domain %q", p.TrustDomain)
	case p.Destination.Name == "":
		return errors.New("parse policy: no destination")
	case p.Rules == nil:
		return errors.New("parse policy: no rules")
	case !p.Normalization.known():
		return fmt.Errorf("parse policy: unknown normalization %+v", p.Normalization)
	case p.DefaultAction != "allow" && p.DefaultAction != "deny":
		return fmt.Errorf("parse policy: default action %q", p.DefaultAction)
	}
	for i := range p.Rules {
		if s := p.Rules[i].Source; s.Name == "" || s.Namespace == "" || s.Partition == "" {
			return fmt.Errorf("parse policy: rule %d has no source", i+1)
		}
	}
	return nil
}

// known reports whether the words of the normalization are known. A request
// that is normalized in an unknown way cannot be judged.
func (n *Normalization) known() bool {
	return slices.Contains([]string{SlashesKeep, SlashesReject, SlashesUnescape}, n.EscapedSlashes) &&
		slices.Contains([]string{UnderscoresAllow, UnderscoresReject, UnderscoresDrop}, n.Underscores)
}

// UnmarshalJSON reads a rule and notes whether all of it was understood.
func (r *Rule) UnmarshalJSON(raw []byte) error {
	type plain Rule
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	known := strict.Decode((*plain)(r)) == nil
	if !known {
		*r = Rule{}
		if err := json.Unmarshal(raw, (*plain)(r)); err != nil {
			return err
		}
	}
	// Partitions compare without regard to case, and IDs have them in lower case.
	r.Source.Partition = strings.ToLower(r.Source.Partition)
	hasAction, hasPermissions := r.Action != "", len(r.Permissions) > 0
	var members any
	if err := json.Unmarshal(raw, &members); err != nil {
		return err
	}
	r.unknown = !known || !exactNames(members) || hasAction == hasPermissions ||
		hasAction && r.Action != "allow" && r.Action != "deny"
	return nil
}

// exactNames reports whether no member of a rule differs from ours in letter
// case: encoding/json would take it for ours, other languages would not.
func exactNames(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" || !exactNames(value) {
				return false
			}
		}
	case []any:
		for _, value := range v {
			if !exactNames(value) {
				return false
			}
		}
	}
	return true
}
