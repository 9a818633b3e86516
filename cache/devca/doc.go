// Package devca is the development authority: a cache.Source without Consul,
// with its own certificate authority in the process and with intentions and
// services from files.
package devca
