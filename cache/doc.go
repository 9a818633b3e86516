// Package cache keeps an immutable snapshot of every watched service, current
// from a Source and durable through a Store.
package cache
