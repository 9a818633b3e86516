package intentions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// ParsePolicy reads a policy document. Unknown members are ignored, except
// inside rules: a rule with one is kept and denies, because what the member
// demands is unknown. A document that lacks what every version has is an error.
func ParsePolicy(raw []byte) (*Policy, error) {
	p := Policy{Normalization: DefaultNormalization()}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("parse policy: %w", err)
	}
	switch {
	case p.Schema < 1:
		return nil, errors.New("parse policy: no schema")
	case p.TrustDomain == "":
		return nil, errors.New("parse policy: no trust domain")
	case p.Destination.Name == "":
		return nil, errors.New("parse policy: no destination")
	case p.DefaultAction != "allow" && p.DefaultAction != "deny":
		return nil, fmt.Errorf("parse policy: default action %q", p.DefaultAction)
	}
	for i := range p.Rules {
		if s := p.Rules[i].Source; s.Name == "" || s.Namespace == "" || s.Partition == "" {
			return nil, fmt.Errorf("parse policy: rule %d has no source", i+1)
		}
	}
	return &p, nil
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
	hasAction, hasPermissions := r.Action != "", len(r.Permissions) > 0
	r.unknown = !known || hasAction == hasPermissions ||
		hasAction && r.Action != "allow" && r.Action != "deny"
	return nil
}
