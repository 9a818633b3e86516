//go:build !linux

package consultest

import "syscall"

// dieWithParent asks for nothing: only Linux offers it, so elsewhere a killed test binary
// leaves its agents behind.
func dieWithParent() *syscall.SysProcAttr {
	return nil
}

// frozen knows no way to ask.
func frozen(int) error {
	return nil
}
