package intentions

// Outcome is one of the three answers to "may this source reach this
// destination?". Its zero value is Deny.
type Outcome uint8

// The outcomes. PerRequest means that the deciding intention has permissions
// and no request was given; whoever cannot judge requests treats it as Deny.
const (
	Deny Outcome = iota
	Allow
	PerRequest
)

var outcomeWords = [...]string{Deny: "deny", Allow: "allow", PerRequest: "per_request"}

// String returns the word used on the wire.
func (o Outcome) String() string { return outcomeWords[o] }

// Reason is the machine-readable cause of a decision.
type Reason uint8

// The reasons, in the words of the wire. The zero value belongs to the zero
// decision: nothing is known yet, so the answer is deny.
const (
	ReasonNotReady Reason = iota
	ReasonIntention
	ReasonPermission
	ReasonDefaultAction
	ReasonRequestRequired
	ReasonPolicyStale
	ReasonForeignTrustDomain
	ReasonInvalidSource
	ReasonAmbiguousRequest
	ReasonUnsupported
)

var reasonWords = [...]string{
	ReasonNotReady:           "not_ready",
	ReasonIntention:          "intention",
	ReasonPermission:         "permission",
	ReasonDefaultAction:      "default_action",
	ReasonRequestRequired:    "request_required",
	ReasonPolicyStale:        "policy_stale",
	ReasonForeignTrustDomain: "foreign_trust_domain",
	ReasonInvalidSource:      "invalid_source",
	ReasonAmbiguousRequest:   "ambiguous_request",
	ReasonUnsupported:        "unsupported",
}

// String returns the word used on the wire.
func (r Reason) String() string { return reasonWords[r] }

// Decision is an outcome with its cause. The zero value is a denial.
type Decision struct {
	Outcome Outcome
	Reason  Reason
	// Rule numbers the deciding rule from 1 in the order of the policy (so it
	// is the number in the rule's id); 0 means that none decided.
	Rule int32
	// Permission numbers the deciding permission of that rule from 1; 0 means
	// that none decided.
	Permission int32
}

// Allowed reports whether the decision lets the caller pass. A decision that
// needs a request does not.
func (d Decision) Allowed() bool { return d.Outcome == Allow }
