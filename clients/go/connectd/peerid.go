package connectd

import (
	"crypto/x509"
	"strings"
	"unsafe"

	"github.com/connectd/connectd/intentions"
)

// certificateID returns the SPIFFE ID of a leaf.
func certificateID(c *x509.Certificate) (intentions.ID, bool) {
	uri, ok := sanURI(c)
	if !ok {
		return intentions.ID{}, false
	}
	id, err := intentions.ParseID(strings.Clone(uri))
	return id, err == nil
}

// sanURI returns the one URI of a certificate as it was signed, without
// allocating. What crypto/x509 makes of it is not looked at: its parser has
// forgotten, for instance, a fragment that was empty. The string shares the
// memory of the certificate, which nobody writes to once it is parsed.
func sanURI(c *x509.Certificate) (string, bool) {
	if len(c.URIs) != 1 {
		return "", false
	}
	raw, ok := onlyURI(c)
	if !ok || len(raw) == 0 {
		return "", false
	}
	return unsafe.String(&raw[0], len(raw)), true
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
