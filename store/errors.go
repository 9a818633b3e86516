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
	// ErrKey means that the file cannot be read with the key that is
	// configured, or that there is none. The file is left untouched.
	ErrKey = errors.New("the store's key is missing or wrong")
	// ErrUnverified means that the file could not be examined at all, which
	// says nothing about it. The file is left untouched.
	ErrUnverified = errors.New("the store could not be verified")
)

// Errors of writing.
var (
	// ErrMoved means that the directory is not the one that was opened.
	ErrMoved = errors.New("the store's directory was removed or replaced while the daemon ran; restart the daemon to use the new one")
	// errFault means that the mapped file made bbolt panic or fault.
	errFault = errors.New("the mapped file cannot be used")
)
