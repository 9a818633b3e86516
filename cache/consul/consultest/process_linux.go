package consultest

import "syscall"

// dieWithParent has the kernel kill the child when the test binary ends without cleanup.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
