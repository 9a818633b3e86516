package socketapi

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// peerOfPID reads of a process what would be known of it if it connected.
func peerOfPID(pid int32) (Peer, error) {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return Peer{}, errNoProcess
	}
	held := &process{fd: fd}
	defer held.close()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/status")
	path := cgroupOf(pid)
	if err != nil || !held.lives() {
		return Peer{}, errNoProcess
	}
	p := Peer{PID: pid, Pinned: true, Cgroup: path, Unit: unitOf(path), Container: containerOf(path)}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		switch {
		case name == "Uid" && len(fields) == 4:
			p.UID = idOf(fields[1])
		case name == "Gid" && len(fields) == 4:
			p.GID = idOf(fields[1])
		case name == "Groups":
			for _, f := range fields {
				p.Groups = append(p.Groups, idOf(f))
			}
		}
	}
	return p, nil
}

// idOf reads an id; one that cannot be read is nobody's.
func idOf(text string) uint32 {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nobody
	}
	return uint32(id)
}
