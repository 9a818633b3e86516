package daemon

import (
	"slices"
	"strings"

	"github.com/connectd/connectd/socketapi"
)

// selector is one condition of an allow block.
type selector interface {
	matches(p *socketapi.Peer) bool
	// want is the condition as the configuration says it, and got what the
	// peer has in its place.
	want() string
	got(p *socketapi.Peer) string
}

// overflowID is the id that the kernel shows for users of other namespaces.
const overflowID = 65534

// unknownID stands for a peer whose ids could not be read; chown takes it as
// "no change".
const unknownID = 1<<32 - 1

// namesNobody reports the ids of everybody who cannot be told apart.
func namesNobody(id uint32) bool { return id == overflowID || id == unknownID }

// userSelector matches by uid; one whose name is not known matches nobody.
type userSelector struct {
	name  string
	id    uint32
	known bool
}

func (s userSelector) matches(p *socketapi.Peer) bool {
	return s.known && p.UID == s.id && !namesNobody(p.UID)
}
func (s userSelector) want() string                 { return idText("user", s.name, s.id, s.known) }
func (s userSelector) got(p *socketapi.Peer) string { return "uid " + idString(p.UID) }

// groupSelector matches by the first group or a supplementary one.
type groupSelector struct {
	name  string
	id    uint32
	known bool
}

func (s groupSelector) matches(p *socketapi.Peer) bool {
	// A process of which only the groups can be told could be anybody's.
	if !s.known || namesNobody(s.id) || namesNobody(p.UID) {
		return false
	}
	return p.GID == s.id || slices.Contains(p.Groups, s.id)
}
func (s groupSelector) want() string { return idText("group", s.name, s.id, s.known) }
func (s groupSelector) got(p *socketapi.Peer) string {
	text := "gid " + idString(p.GID)
	for _, g := range p.Groups {
		text += "," + idString(g)
	}
	return text
}

// unitSelector matches the system unit.
type unitSelector string

func (s unitSelector) matches(p *socketapi.Peer) bool { return p.Pinned && p.Unit == string(s) }
func (s unitSelector) want() string                   { return "unit " + string(s) }
func (s unitSelector) got(p *socketapi.Peer) string {
	return pinnedText(p, "unit", p.Unit, "no system unit")
}

// containerSelector matches the id of a container.
type containerSelector string

func (s containerSelector) matches(p *socketapi.Peer) bool {
	return p.Pinned && p.Container == string(s)
}
func (s containerSelector) want() string { return "container " + string(s) }
func (s containerSelector) got(p *socketapi.Peer) string {
	return pinnedText(p, "container", p.Container, "no container")
}

// cgroupSelector matches the whole path of a control group, segment by
// segment.
type cgroupSelector struct {
	text     string
	segments []string
}

// anyID stands for the id of a container in a segment.
const anyID = "<64hex>"

func newCgroupSelector(text string) cgroupSelector {
	return cgroupSelector{text, strings.Split(text, "/")}
}

func (s cgroupSelector) matches(p *socketapi.Peer) bool {
	if !p.Pinned || p.Cgroup == "" {
		return false
	}
	got := strings.Split(p.Cgroup, "/")
	return slices.EqualFunc(s.segments, got, segmentMatches)
}

// segmentMatches compares one segment; only anyID is not taken literally.
func segmentMatches(want, got string) bool {
	before, after, found := strings.Cut(want, anyID)
	if !found {
		return want == got
	}
	rest, ok := strings.CutPrefix(got, before)
	if !ok {
		return false
	}
	id, ok := strings.CutSuffix(rest, after)
	return ok && isContainerID(id)
}

func (s cgroupSelector) want() string { return "cgroup " + s.text }
func (s cgroupSelector) got(p *socketapi.Peer) string {
	return pinnedText(p, "cgroup", p.Cgroup, "no control group that can be seen")
}

// isContainerID reports whether s is 64 lower-case hexadecimal digits.
func isContainerID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func pinnedText(p *socketapi.Peer, kind, value, none string) string {
	switch {
	case !p.Pinned:
		return "no " + kind + " that could be checked"
	case value == "":
		return none
	}
	return kind + " " + value
}
