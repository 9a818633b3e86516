package intentions

import "strings"

// DefaultPart is the partition and the namespace of everything in Consul's
// Community Edition.
const DefaultPart = "default"

// Wildcard stands for every name (or every namespace) in an intention.
const Wildcard = "*"

// Service names a Consul service by its three parts. It is comparable, so it
// serves as a map key everywhere.
type Service struct {
	Partition string `json:"partition"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// NewService names a service of the default partition and namespace.
func NewService(name string) Service {
	return Service{Partition: DefaultPart, Namespace: DefaultPart, Name: name}
}

// InDefaultParts reports whether the service lies in the default partition
// and namespace, the only ones that Community Edition has.
func (s Service) InDefaultParts() bool {
	return s.Partition == DefaultPart && s.Namespace == DefaultPart
}

// String returns the bare name where the other two parts are default, and
// partition/namespace/name otherwise.
func (s Service) String() string {
	if s.InDefaultParts() {
		return s.Name
	}
	return s.Partition + "/" + s.Namespace + "/" + s.Name
}

// Folded returns the service with its name in lower case: Consul looks up
// destinations without regard to case (but sources with regard to it).
func (s Service) Folded() Service {
	s.Partition = strings.ToLower(s.Partition)
	s.Name = strings.ToLower(s.Name)
	return s
}

// maxNameBytes bounds a service name; Consul itself sets no bound.
const maxNameBytes = 253

// ValidName reports whether name can be the name of a mesh service here:
// letters, digits, dots, dashes and underscores, at most 253 bytes, and not a
// dot segment. Consul accepts more in places, but no such name survives as a
// SPIFFE path segment without escapes.
func ValidName(name string) bool {
	if name == "" || len(name) > maxNameBytes || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		if !isNameByte(name[i]) {
			return false
		}
	}
	return true
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '.'
}
