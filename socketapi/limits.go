package socketapi

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Defaults of the numbers of connections.
const (
	maxConnections       = 16384
	maxConnectionsPerUID = 4096
	// reserve is kept for Consul, the disk and the administrator.
	reserve = 64
)

// Limits bounds the connections of all servers that share it.
type Limits struct {
	total, perUID int

	mu sync.Mutex // guards open and byUID
	// open counts all connections, byUID those of each user.
	open  int
	byUID map[uint32]int
}

// NewLimits makes limits; 0 means the default. Both are lowered to what the
// descriptors of this process allow: a connection takes one, and its process
// another.
func NewLimits(total, perUID int) *Limits {
	if total <= 0 {
		total = maxConnections
	}
	if perUID <= 0 {
		perUID = maxConnectionsPerUID
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < 1<<30 {
		total = max(min(total, (int(files.Cur)-reserve)/2), 1)
	}
	return &Limits{total: total, perUID: min(perUID, total), byUID: map[uint32]int{}}
}

// enter counts one connection, unless there are too many.
func (l *Limits) enter(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.total || l.byUID[uid] >= l.perUID {
		return false
	}
	l.open++
	l.byUID[uid]++
	return true
}

// leave counts one less.
func (l *Limits) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byUID[uid]--; l.byUID[uid] == 0 {
		delete(l.byUID, uid)
	}
}
