package connectd

import (
	"bytes"
	"crypto/x509"
	"strings"

	"github.com/connectd/connectd/intentions"
)

// certificateID returns the SPIFFE ID of a leaf, without allocating. What
// crypto/x509 made of the URI has lost what a parser may forgive, so its parts
// count only if they are, byte for byte, what was signed.
func certificateID(c *x509.Certificate) (intentions.ID, bool) {
	if len(c.URIs) != 1 {
		return intentions.ID{}, false
	}
	u := c.URIs[0]
	raw, ok := onlyURI(c)
	if !ok || len(raw) > maxIDBytes || len(raw) != len(idScheme)+len(u.Host)+len(u.Path) ||
		!bytes.EqualFold(raw[:len(idScheme)], []byte(idScheme)) {
		return intentions.ID{}, false
	}
	rest := raw[len(idScheme):]
	if string(rest[:len(u.Host)]) != u.Host || string(rest[len(u.Host):]) != u.Path {
		return intentions.ID{}, false
	}
	return idOfParts(u.Host, u.Path)
}

// maxIDBytes is the limit of the SPIFFE ID standard, section 2.3.
const maxIDBytes = 2048

const idScheme = "spiffe://"

// idOfParts parses trust domain and path by the rules of intentions.ParseID.
func idOfParts(trustDomain, path string) (id intentions.ID, ok bool) {
	if !intentions.ValidName(trustDomain) {
		return id, false
	}
	id.TrustDomain = trustDomain
	id.Service.Partition = intentions.DefaultPart
	if strings.HasPrefix(path, "/ap/") {
		if id.Service.Partition, path, ok = labelled(path, "/ap/"); !ok {
			return id, false
		}
		id.Service.Partition = strings.ToLower(id.Service.Partition)
	}
	if id.Service.Namespace, path, ok = labelled(path, "/ns/"); !ok {
		return id, false
	}
	if id.Datacenter, path, ok = labelled(path, "/dc/"); !ok {
		return id, false
	}
	id.Service.Name, path, ok = labelled(path, "/svc/")
	return id, ok && path == ""
}

// labelled cuts a label and the valid segment behind it.
func labelled(path, label string) (value, rest string, ok bool) {
	after, found := strings.CutPrefix(path, label)
	if !found {
		return "", "", false
	}
	end := strings.IndexByte(after, '/')
	if end < 0 {
		end = len(after)
	}
	return after[:end], after[end:], intentions.ValidName(after[:end])
}

// onlyURI returns the bytes of the one URI among the subject's alternative
// names.
func onlyURI(c *x509.Certificate) (uri []byte, ok bool) {
	for i := range c.Extensions {
		// The id of the extension is 2.5.29.17.
		if id := c.Extensions[i].Id; len(id) != 4 || id[0] != 2 || id[1] != 5 || id[2] != 29 || id[3] != 17 {
			continue
		}
		list, _, _, ok := element(c.Extensions[i].Value)
		for ok && len(list) > 0 {
			var body []byte
			var tag byte
			if body, list, tag, ok = element(list); ok && tag == tagURI {
				if uri != nil {
					return nil, false
				}
				uri = body
			}
		}
		if !ok {
			return nil, false
		}
	}
	return uri, uri != nil
}

// tagURI is the tag of uniformResourceIdentifier in RFC 5280, section 4.2.1.6.
const tagURI = 0x86

// element cuts one DER element of less than 64 KiB.
func element(der []byte) (body, rest []byte, tag byte, ok bool) {
	if len(der) < 2 {
		return nil, nil, 0, false
	}
	tag, length, from := der[0], int(der[1]), 2
	switch {
	case length < 0x80:
	case length == 0x81 && len(der) > 2:
		length, from = int(der[2]), 3
	case length == 0x82 && len(der) > 3:
		length, from = int(der[2])<<8|int(der[3]), 4
	default:
		return nil, nil, 0, false
	}
	if from+length > len(der) {
		return nil, nil, 0, false
	}
	return der[from : from+length], der[from+length:], tag, true
}
