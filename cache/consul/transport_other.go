//go:build !linux

package consul

import "syscall"

// setUserTimeout does nothing where the kernel has no such option; keep-alives
// bound the time there.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }
