package daemon

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// names looks up the ids of users and groups.
type names struct {
	// getent is the program that asks the host's name services, which this
	// binary may have been built without; empty where there is none.
	getent string
}

// getentTime bounds a lookup: a directory service may be away.
const getentTime = 2 * time.Second

// systemNames looks names up on this host. The program is looked for where
// only root can have put it.
func systemNames() names {
	for _, path := range [...]string{"/usr/bin/getent", "/bin/getent"} {
		if _, err := exec.LookPath(path); err == nil {
			return names{getent: path}
		}
	}
	return names{}
}

// errUnknownName means that nobody on this host has a name.
var errUnknownName = errors.New("does not exist on this host")

// user returns the uid of a user who is given by name or number.
func (n names) user(name string) (uint32, error) {
	return n.id("user", "passwd", name, func() (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
}

// group returns the gid of a group that is given by name or number.
func (n names) group(name string) (uint32, error) {
	return n.id("group", "group", name, func() (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
}

func (n names) id(kind, database, name string, lookup func() (string, error)) (uint32, error) {
	text, err := lookup()
	if err != nil && isNumber(name) {
		text, err = name, nil
	}
	if err != nil {
		if !isName(name) {
			return 0, fmt.Errorf("%s %q is neither a name nor an id", kind, name)
		}
		if text, err = n.ask(database, name); err != nil {
			return 0, fmt.Errorf("%s %q %w", kind, name, errUnknownName)
		}
	}
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s %q is neither a name nor an id", kind, name)
	}
	if namesNobody(uint32(id)) {
		return 0, fmt.Errorf("%s %q is the id of everybody whom the kernel cannot name; it cannot be admitted", kind, name)
	}
	return uint32(id), nil
}

// ask runs getent; its third field is the id in both databases.
func (n names) ask(database, name string) (string, error) {
	if n.getent == "" {
		return "", errUnknownName
	}
	ctx, cancel := context.WithTimeout(context.Background(), getentTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, n.getent, database, "--", name).Output()
	if err != nil {
		return "", errUnknownName
	}
	fields := strings.Split(strings.TrimSuffix(string(out), "\n"), ":")
	if len(fields) < 3 || fields[0] != name {
		return "", errUnknownName
	}
	return fields[2], nil
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isName reports whether s could be somebody's name. What begins like a number
// or an option is a typing error.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		other := c >= '0' && c <= '9' || strings.IndexByte("-.@$+\\", c) >= 0
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

func idString(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// idText says a user or group with the id that it stands for.
func idText(kind, name string, id uint32, known bool) string {
	switch {
	case !known:
		return kind + " " + name + " (unknown here)"
	case name == "" || name == idString(id):
		return kind + " " + idString(id)
	}
	return kind + " " + name + " (" + idString(id) + ")"
}

// userID and groupID look up who owns a socket.
func userID(name string) (uint32, error)  { return systemNames().user(name) }
func groupID(name string) (uint32, error) { return systemNames().group(name) }
