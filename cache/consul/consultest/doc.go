// Package consultest runs a real Consul agent for a test, and programs of Consul's own SDK against it.
package consultest
