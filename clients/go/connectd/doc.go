// Package connectd asks the connectd daemon on this host for leaves, the trust
// bundle, policies and decisions, over its Unix socket.
package connectd
