package main

import (
	"fmt"

	"github.com/connectd/connectd/internal/tools/genvectors/reference"
)

// idCase is one string and its parts as a SPIFFE ID of a Consul service.
type idCase struct {
	head
	URI         text    `json:"uri"`
	Valid       bool    `json:"valid"`
	TrustDomain *string `json:"trust_domain"`
	Partition   *string `json:"partition"`
	Namespace   *string `json:"namespace"`
	Datacenter  *string `json:"datacenter"`
	Name        *string `json:"name"`
}

// idSample is a string with what it is about.
type idSample struct {
	uri     text
	flag    string
	comment string
}

func idFile() *vectorFile {
	f := &vectorFile{
		schema: "spiffe-ids.schema.json",
		about:  "Strings and their parts as SPIFFE IDs of Consul services, by the strict grammar that decisions use.",
	}
	numbers := map[string]int{}
	for _, s := range idSamples() {
		numbers[s.flag]++
		c := idCase{head: head{fmt.Sprintf("id-%s-%03d", s.flag, numbers[s.flag]), []string{s.flag}, s.comment}, URI: s.uri}
		if id, ok := reference.ParseID(s.uri.String()); ok {
			c.Valid = true
			c.TrustDomain, c.Partition, c.Namespace = &id.TrustDomain, &id.Partition, &id.Namespace
			c.Datacenter, c.Name = &id.Datacenter, &id.Name
		} else {
			c.Flags = append(c.Flags, "malformed")
		}
		f.cases = append(f.cases, c)
	}
	return f
}

func idSamples() []idSample {
	out := listedIDs()
	out = append(out, longIDs()...)
	// Every byte of ASCII, and some beyond, in the middle of each part.
	for _, c := range byteSamples() {
		out = append(out, idSample{
			join(plain("spiffe://td.consul/ns/default/dc/dc1/svc/a"), plain(string(c)), plain("b")), "byte",
			fmt.Sprintf("The bytes %x in the middle of a name.", c),
		})
	}
	for i, part := range []string{"td", "ap", "ns", "dc"} {
		for _, c := range []string{"%41", "*", "é", " ", ":", "@", "?", "#", "~", "_", "-", "."} {
			parts := []string{"td.consul", "a", "default", "dc1"}
			parts[i] += c + "z"
			uri := "spiffe://" + parts[0] + "/ap/" + parts[1] + "/ns/" + parts[2] + "/dc/" + parts[3] + "/svc/web"
			out = append(out, idSample{plain(uri), "part", fmt.Sprintf("The text %s within the part %s.", c, part)})
		}
	}
	return out
}

func byteSamples() [][]byte {
	var out [][]byte
	for c := byte(0); c <= 0x7f; c++ {
		isLetter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !isLetter || c == 'A' || c == 'Z' || c == 'a' || c == 'z' {
			out = append(out, []byte{c})
		}
	}
	return append(out, []byte{0x80}, []byte{0xff}, []byte{0xc0, 0xaf}, []byte("é"), []byte("ſ"), []byte("\u212a"),
		[]byte("\u2024"), []byte("\uff0e"), []byte("\u202e"), []byte("\ufeff"), []byte("日本"))
}

func longIDs() []idSample {
	const front, back = "spiffe://td.consul/ns/default/dc/dc1/svc/", "the limit of a part is 253 bytes"
	var out []idSample
	for _, n := range []int{1, 63, 64, 252, 253, 254, 255, 256, 2047, 2048, 2049, 65536} {
		out = append(out, idSample{join(plain(front), repeat("n", n)), "oversized", fmt.Sprintf("A name of %d bytes; %s.", n, back)})
	}
	for _, n := range []int{253, 254} {
		out = append(out,
			idSample{join(plain("spiffe://"), repeat("t", n), plain("/ns/default/dc/dc1/svc/web")), "oversized",
				fmt.Sprintf("A trust domain of %d bytes; %s.", n, back)},
			idSample{join(plain("spiffe://td.consul/ns/"), repeat("s", n), plain("/dc/dc1/svc/web")), "oversized",
				fmt.Sprintf("A namespace of %d bytes; %s.", n, back)},
			idSample{join(plain("spiffe://td.consul/ap/"), repeat("p", n), plain("/ns/default/dc/dc1/svc/web")), "oversized",
				fmt.Sprintf("A partition of %d bytes; %s.", n, back)},
			idSample{join(plain("spiffe://td.consul/ns/default/dc/"), repeat("d", n), plain("/svc/web")), "oversized",
				fmt.Sprintf("A datacenter of %d bytes; %s.", n, back)},
		)
	}
	return out
}
