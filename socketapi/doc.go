// Package socketapi serves the cache over Unix sockets: connectd's own routes
// and those of Consul's agent that the Connect SDK uses.
package socketapi
