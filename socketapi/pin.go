package socketapi

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Pin returns a descriptor that holds the process at the other end of a Unix
// socket. The error is ENOPROTOOPT where the kernel has no such thing; any
// other means that the process is gone.
type Pin func(fd int) (pidfd int, err error)

// CanPin reports whether the kernel can hold processes. Without that, a rule
// by unit, control group or container cannot be checked.
func CanPin(pin Pin) (bool, error) {
	if pin == nil {
		pin = PeerPin
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return false, fmt.Errorf("look what the kernel can tell of processes: %w", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	held, err := pin(pair[0])
	if errors.Is(err, unix.ENOPROTOOPT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look what the kernel can tell of processes: %w", err)
	}
	return true, unix.Close(held)
}
