package socketapi

import "strings"

// parseCgroup finds the control group in the text of /proc/PID/cgroup: that of
// systemd's own hierarchy where there is one, else that of version 2. A path
// that is not absolute, or leaves what this process can see, is none.
func parseCgroup(text string) string {
	path, named := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		number, rest, _ := strings.Cut(line, ":")
		controllers, p, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case controllers == "name=systemd":
			path, named = p, true
		case number == "0" && controllers == "" && !named:
			path = p
		}
	}
	if !plainCgroup(path) {
		return ""
	}
	return path
}

// plainCgroup reports whether a path is absolute and means one group only.
func plainCgroup(path string) bool {
	if path == "/" {
		return true
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return false
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// unitOf finds the system unit in a path. Only what lies below /system.slice
// counts, and only the first unit: below it, names belong to whoever the unit
// gave its group to.
func unitOf(path string) string {
	rest, ok := strings.CutPrefix(path, "/system.slice/")
	if !ok {
		return ""
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if strings.HasSuffix(segment, ".slice") {
			continue
		}
		for _, kind := range [...]string{".service", ".scope", ".socket", ".mount", ".swap"} {
			if len(segment) > len(kind) && strings.HasSuffix(segment, kind) {
				return segment
			}
		}
		return ""
	}
	return ""
}

// containerOf finds the container's id in a path. Only groups count that a
// runtime has made where nobody else may make groups: a scope that has nothing
// but system slices above it, or the runtime's own tree.
func containerOf(path string) string {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return ""
	}
	segments := strings.Split(rest, "/")
	switch {
	case segments[0] == "user.slice":
		return ""
	case segments[0] == "docker" && len(segments) > 1:
		return hex64(segments[1])
	case segments[0] == "kubepods":
		return podContainer(segments[1:])
	}
	for i, segment := range segments {
		if strings.HasSuffix(segment, ".slice") {
			continue
		}
		if i == 0 {
			return ""
		}
		return scopeContainer(segment)
	}
	return ""
}

// podContainer finds the id below the tree of a kubelet that does without
// systemd: [burstable/|besteffort/]podUID/ID.
func podContainer(segments []string) string {
	if len(segments) > 0 && (segments[0] == "burstable" || segments[0] == "besteffort") {
		segments = segments[1:]
	}
	if len(segments) < 2 || !strings.HasPrefix(segments[0], "pod") {
		return ""
	}
	return hex64(segments[1])
}

// scopeContainer finds the id in the name of a runtime's scope.
func scopeContainer(segment string) string {
	name, ok := strings.CutSuffix(segment, ".scope")
	if !ok {
		return ""
	}
	for _, runtime := range [...]string{"docker-", "libpod-", "cri-containerd-", "crio-"} {
		if id, ok := strings.CutPrefix(name, runtime); ok {
			return hex64(id)
		}
	}
	return ""
}

// hex64 returns s if it is 64 lower-case hexadecimal digits.
func hex64(s string) string {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}
