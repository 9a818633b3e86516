package consultest

// Options say what agent to run. The zero value is a server with ACLs off.
type Options struct {
	// ACL turns ACLs on, with ManagementToken as the initial management token.
	// DefaultPolicy is what applies without a matching rule, "deny" when empty.
	ACL           bool
	DefaultPolicy string

	// DefaultIntentionPolicy is left unset when empty. Each agent has its own.
	DefaultIntentionPolicy string

	// TLS adds an HTTPS listener; see Agent.HTTPSAddr and Agent.CAFile.
	TLS bool

	// UnixSocket adds an HTTP listener on a Unix socket; see Agent.SocketPath.
	UnixSocket bool

	// HTTPMaxConnsPerClient limits the connections of one client address, 200 when zero.
	HTTPMaxConnsPerClient int

	// Join makes a client agent of that server. ACL and DefaultPolicy are taken from it.
	Join *Agent

	// CAConfig configures Consul's built-in authority, as in {"leaf_cert_ttl": "1h"}.
	CAConfig map[string]any

	// Extra is merged into the agent's configuration last. Maps are merged key by key.
	Extra map[string]any
}

// ManagementToken is the secret of the initial management token of every agent with ACLs.
const ManagementToken = "6a1253d2-1785-24fd-91c2-f8e78c745511"
