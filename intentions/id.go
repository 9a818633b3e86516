package intentions

import (
	"errors"
	"strings"
)

// ID is a parsed SPIFFE ID of a Consul service,
// spiffe://<trust domain>[/ap/<partition>]/ns/<namespace>/dc/<datacenter>/svc/<name>.
// It is comparable and its parts are substrings of what was parsed.
type ID struct {
	TrustDomain string
	Service     Service
	Datacenter  string
}

// ErrInvalidID is returned for anything that is not the SPIFFE ID of a Consul
// service in its plain form.
var ErrInvalidID = errors.New("not the SPIFFE ID of a Consul service " +
	"(spiffe://<trust domain>/ns/<namespace>/dc/<datacenter>/svc/<name>)")

// maxIDBytes is the limit of the SPIFFE ID standard, section 2.3.
const maxIDBytes = 2048

const idScheme = "spiffe://"

// ParseID parses the SPIFFE ID of a Consul service without allocating. It is
// stricter than Consul (see ParseURI): escapes, user information, ports,
// queries, fragments and dot segments are refused, as the SPIFFE ID standard
// (section 2) demands, so that equal IDs are equal bytes.
func ParseID(uri string) (ID, error) {
	if len(uri) > maxIDBytes || len(uri) < len(idScheme) ||
		!strings.EqualFold(uri[:len(idScheme)], idScheme) {
		return ID{}, ErrInvalidID
	}
	var id ID
	rest := uri[len(idScheme):]
	var ok bool
	if id.TrustDomain, rest, ok = segment(rest); !ok {
		return ID{}, ErrInvalidID
	}
	id.Service.Partition = DefaultPart
	if after, found := strings.CutPrefix(rest, "ap/"); found {
		if id.Service.Partition, rest, ok = segment(after); !ok {
			return ID{}, ErrInvalidID
		}
		id.Service.Partition = strings.ToLower(id.Service.Partition)
	}
	if id.Service.Namespace, rest, ok = labelled(rest, "ns/"); !ok {
		return ID{}, ErrInvalidID
	}
	if id.Datacenter, rest, ok = labelled(rest, "dc/"); !ok {
		return ID{}, ErrInvalidID
	}
	name, found := strings.CutPrefix(rest, "svc/")
	if !found || !ValidName(name) {
		return ID{}, ErrInvalidID
	}
	id.Service.Name = name
	return id, nil
}

// segment cuts one valid path segment and the slash behind it.
func segment(s string) (head, rest string, ok bool) {
	i := strings.IndexByte(s, '/')
	if i < 0 || !ValidName(s[:i]) {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

func labelled(s, label string) (value, rest string, ok bool) {
	after, found := strings.CutPrefix(s, label)
	if !found {
		return "", "", false
	}
	return segment(after)
}

// String returns the SPIFFE ID as Consul writes it: no /ap/ part for the
// default partition.
func (id ID) String() string {
	partition := ""
	if p := id.Service.Partition; p != "" && p != DefaultPart {
		partition = "/ap/" + p
	}
	return idScheme + id.TrustDomain + partition + "/ns/" + id.Service.Namespace +
		"/dc/" + id.Datacenter + "/svc/" + id.Service.Name
}

// SameTrustDomain compares trust domains without regard to case.
func (id ID) SameTrustDomain(trustDomain string) bool {
	return id.TrustDomain == trustDomain || strings.EqualFold(id.TrustDomain, trustDomain)
}
