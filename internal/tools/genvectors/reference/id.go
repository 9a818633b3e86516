package reference

import (
	"regexp"
	"strings"
)

// ID is the SPIFFE ID of a Consul service in its parts.
type ID struct {
	TrustDomain, Partition, Namespace, Datacenter, Name string
}

const segment = `([A-Za-z0-9._-]{1,253})`

var idForm = regexp.MustCompile(`\A[sS][pP][iI][fF][fF][eE]://` + segment + `(?:/ap/` + segment + `)?` +
	`/ns/` + segment + `/dc/` + segment + `/svc/` + segment + `\z`)

var domainForm = regexp.MustCompile(`\A` + segment + `\z`)

// ParseID takes a SPIFFE ID apart. It reports false for everything that is not
// the ID of a Consul service in its plain form.
func ParseID(uri string) (ID, bool) {
	m := idForm.FindStringSubmatch(uri)
	if m == nil || len(uri) > 2048 {
		return ID{}, false
	}
	for _, part := range m[1:] {
		if part == "." || part == ".." {
			return ID{}, false
		}
	}
	id := ID{TrustDomain: m[1], Partition: "default", Namespace: m[3], Datacenter: m[4], Name: m[5]}
	if m[2] != "" {
		id.Partition = strings.ToLower(m[2])
	}
	return id, true
}
