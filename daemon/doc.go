// Package daemon puts connectd together: configuration, admission, the cache
// with its source and store, and the sockets.
package daemon
