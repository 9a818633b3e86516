package socketapi

import "github.com/connectd/connectd/intentions"

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
