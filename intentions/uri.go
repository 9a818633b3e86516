package intentions

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// Errors of ParseURI.
var (
	// ErrNotConnectURI means that no kind of Consul mesh identity fits.
	ErrNotConnectURI = errors.New("not a valid Connect identifier")
	// ErrNotServiceURI means an agent, server, gateway or signing identity.
	ErrNotServiceURI = errors.New("not a valid Service identifier")
)

// ParseURI parses a certificate URI as Consul's agent does for
// POST /v1/agent/connect/authorize. It is laxer than ParseID: any case of the
// scheme, percent escapes (decoded after splitting, so that %2F stays inside a
// name), and an ignored query, fragment, port and user information. Only the
// Consul-compatible route may use it.
func ParseURI(raw string) (ID, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "spiffe" {
		return ID{}, ErrNotConnectURI
	}
	path, escaped := u.Path, false
	if u.RawPath != "" {
		path, escaped = u.RawPath, true
	}
	if path == "" {
		return ID{}, signingOrUnknown(u.Host)
	}
	parts, ok := splitSegments(path)
	if !ok {
		return ID{}, ErrNotConnectURI
	}
	id, err := serviceFromSegments(u.Host, parts)
	if err == nil && escaped {
		return id.unescaped()
	}
	return id, err
}

// signingOrUnknown tells the two errors of a URI without a path apart: the
// signing identity has a host with a dot that is not its first byte.
func signingOrUnknown(host string) error {
	if strings.IndexByte(host, '.') > 0 {
		return ErrNotServiceURI
	}
	return ErrNotConnectURI
}

// splitSegments returns the segments of an absolute path, none of them empty.
func splitSegments(path string) ([]string, bool) {
	rest, found := strings.CutPrefix(path, "/")
	if !found {
		return nil, false
	}
	parts := strings.Split(rest, "/")
	return parts, !slices.Contains(parts, "")
}

// unescaped decodes what the segments hold. The words between them count as
// they are written: an escape there makes another path.
func (id ID) unescaped() (ID, error) {
	s := &id.Service
	for _, part := range []*string{&s.Partition, &s.Namespace, &s.Name, &id.Datacenter} {
		plain, err := url.PathUnescape(*part)
		if err != nil {
			return ID{}, ErrNotConnectURI
		}
		*part = plain
	}
	s.Partition = strings.ToLower(s.Partition)
	return id, nil
}

func serviceFromSegments(host string, parts []string) (ID, error) {
	partition := DefaultPart
	if len(parts) >= 2 && parts[0] == "ap" {
		partition, parts = strings.ToLower(parts[1]), parts[2:]
	} else if follows(parts, "agent", "server", "dc", "") {
		return ID{}, ErrNotServiceURI
	}
	switch {
	case follows(parts, "ns", "", "dc", "", "svc", ""):
		return ID{
			TrustDomain: host,
			Service:     Service{Partition: partition, Namespace: parts[1], Name: parts[5]},
			Datacenter:  parts[3],
		}, nil
	case follows(parts, "agent", "client", "dc", "", "id", ""),
		follows(parts, "gateway", "mesh", "dc", ""):
		return ID{}, ErrNotServiceURI
	}
	return ID{}, ErrNotConnectURI
}

// follows reports whether parts has exactly the shape given, where an empty
// word stands for any segment.
func follows(parts []string, shape ...string) bool {
	if len(parts) != len(shape) {
		return false
	}
	for i, want := range shape {
		if want != "" && parts[i] != want {
			return false
		}
	}
	return true
}
