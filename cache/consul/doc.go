// Package consul is the source of answers over a Consul agent's HTTP API: few
// connections for any number of services.
package consul
