package connectd

// Explanation says why a decision came out as it did, for people to read: its
// sentences may change. It holds names of headers, and never their values.
type Explanation struct {
	TrustDomain   string `json:"trust_domain"`
	DefaultAction string `json:"default_action"`
	DefaultOrigin string `json:"default_origin"`
	// PathReadings are the path of the request as Consul's Envoy would
	// normalize it and, where that differs, as the most helpful server could
	// understand it.
	PathReadings []string `json:"path_readings,omitempty"`
	// Considered are rules in deciding order, the deciding one last.
	Considered []ConsideredRule `json:"considered"`
	// NotListed is the number of further rules that do not match.
	NotListed int `json:"not_listed,omitempty"`
}

// ConsideredRule is a rule that was looked at.
type ConsideredRule struct {
	Rule        string `json:"rule"`
	Precedence  int    `json:"precedence"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Matched     bool   `json:"matched"`
	// Why says why the rule does not match, or why it could not be judged.
	Why         string                 `json:"why,omitempty"`
	Permissions []ConsideredPermission `json:"permissions,omitempty"`
}

// ConsideredPermission is a permission of the deciding rule that was looked at.
type ConsideredPermission struct {
	Action string `json:"action"`
	// Matched is set for the permission that decided.
	Matched bool `json:"matched"`
	// Why is the first condition that does not hold.
	Why string `json:"why,omitempty"`
}
