// Package store keeps sealed records in one bbolt file that is verified before it
// is opened and written so that no failure of the disk reaches the caller as
// more than an error: it knows bytes, and nothing of what they mean.
package store
