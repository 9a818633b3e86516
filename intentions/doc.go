// Package intentions decides, from SPIFFE IDs and Consul intentions alone,
// which service may connect to which and which request may pass.
package intentions
