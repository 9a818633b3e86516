package socketapi

import (
	"time"

	"github.com/connectd/connectd/intentions"
)

// Grant is a right that admission gives a local process for a service.
type Grant string

// The grants.
const (
	// GrantLeaf hands out the leaf with its private key.
	GrantLeaf Grant = "leaf"
	// GrantAuthorize reads the policy and asks for decisions.
	GrantAuthorize Grant = "authorize"
	// GrantDiscover looks up instances.
	GrantDiscover Grant = "discover"
	// GrantStatus reads the state of the daemon.
	GrantStatus Grant = "status"
	// GrantAny is held by whoever holds any of the above.
	GrantAny Grant = "any"
	// GrantNone needs nothing: such a route reveals no names.
	GrantNone Grant = "none"
)

// Admission decides which local process may do what. It is safe for
// concurrent use.
type Admission interface {
	// Admit reports whether the peer holds a grant for a service; the zero
	// service asks for any service at all.
	Admit(p Peer, g Grant, s intentions.Service) bool
}

// Changing is an Admission whose answers can change while it is in use. A
// right that is taken away then ends for open requests too.
type Changing interface {
	// Changed returns a channel that is closed when answers that were given
	// since the call may no longer hold.
	Changed() <-chan struct{}
}

// Complaining is an Admission that knows which of its rules cannot match
// anybody.
type Complaining interface {
	Complaints() []Complaint
}

// Complaint is why a rule matches nobody.
type Complaint struct {
	// Service is the one that the rule is for; its name is "*" for any.
	Service intentions.Service
	Kind    string
	Message string
	Since   time.Time
}

// Kinds of complaints.
const (
	// ComplaintUnknownName is about a user or group that does not exist here.
	ComplaintUnknownName = "unknown_name"
	// ComplaintUnchecked is about a rule that this kernel cannot check.
	ComplaintUnchecked = "unchecked_rule"
	// ComplaintSocket is about a service's own socket that cannot be served.
	ComplaintSocket = "socket"
)
