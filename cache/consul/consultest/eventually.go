package consultest

import (
	"testing"
	"time"
)

// Eventually asks check until it returns nil, and ends the test when timeout passes first.
// what names the awaited state in the message. It is called on the test's own goroutine.
func Eventually(t testing.TB, timeout time.Duration, what string, check func() error) {
	t.Helper()
	if err := until(timeout, check); err != nil {
		t.Fatalf("%s: not within %v: %v", what, timeout, err)
	}
}

// until asks check until it returns nil, and returns its last error after timeout. It is
// the one place where tests sleep: a real agent offers no other way to learn some states.
func until(timeout time.Duration, check func() error) error {
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
