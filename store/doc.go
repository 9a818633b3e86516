// Package store keeps records in one bbolt file: it knows bytes, buckets and
// keys, and nothing of what they mean.
package store
