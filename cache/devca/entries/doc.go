// Package entries reads Consul's service-intentions configuration entries and
// service definitions from HCL or JSON text and refuses what Consul would.
package entries
