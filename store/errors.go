package store

import "errors"

// Errors of opening.
var (
	// ErrLocked means that another process holds the store.
	ErrLocked = errors.New("another process uses the store; is a second daemon running?")
	// ErrNewerFormat means that a newer version wrote the file, which is left
	// untouched.
	ErrNewerFormat = errors.New("the store was written by a newer version")
	// ErrDamaged means that the file is not a store or holds damaged records.
	ErrDamaged = errors.New("the store is damaged")
)
