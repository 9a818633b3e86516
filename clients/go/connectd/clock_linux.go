package connectd

import (
	"syscall"
	"time"
	"unsafe"
)

// clockBoottime is CLOCK_BOOTTIME of the kernel, which the standard library
// has no name for.
const clockBoottime = 7

// sinceBoot returns the time since the machine was started, including the time
// that it was suspended; 0 where the kernel does not tell.
func sinceBoot() time.Duration {
	var ts syscall.Timespec
	_, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0)
	if failed != 0 {
		return 0
	}
	return time.Duration(ts.Nano())
}
