package intentions

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseID(t *testing.T) {
	long := strings.Repeat("a", 253)
	in := func(partition, namespace, name string) Service { return Service{partition, namespace, name} }
	tests := []struct {
		name, uri string
		want      ID
	}{
		{"plain", "spiffe://td.consul/ns/default/dc/dc1/svc/web", ID{"td.consul", in("default", "default", "web"), "dc1"}},
		{"partition", "spiffe://td.consul/ap/billing/ns/n/dc/dc1/svc/web", ID{"td.consul", in("billing", "n", "web"), "dc1"}},
		{"partition-folded", "spiffe://td.consul/ap/BiLLing/ns/n/dc/dc1/svc/web", ID{"td.consul", in("billing", "n", "web"), "dc1"}},
		{"default-partition", "spiffe://td.consul/ap/default/ns/default/dc/dc1/svc/web", ID{"td.consul", in("default", "default", "web"), "dc1"}},
		{"scheme-any-case", "SpIfFe://td.consul/ns/default/dc/dc1/svc/web", ID{"td.consul", in("default", "default", "web"), "dc1"}},
		{"case-is-kept", "spiffe://TD.consul/ns/Default/dc/DC1/svc/Web", ID{"TD.consul", in("default", "Default", "Web"), "DC1"}},
		{"labels-as-names", "spiffe://ap/ns/ns/dc/dc/svc/svc", ID{"ap", in("default", "ns", "svc"), "dc"}},
		{"every-byte", "spiffe://t/ns/default/dc/d/svc/azAZ09-_.", ID{"t", in("default", "default", "azAZ09-_."), "d"}},
		{"three-dots", "spiffe://t/ns/default/dc/d/svc/...", ID{"t", in("default", "default", "..."), "d"}},
		{"longest-name", "spiffe://t/ns/default/dc/d/svc/" + long, ID{"t", in("default", "default", long), "d"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseID(tt.uri)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

// The classes of what ParseID refuses, one example or more of each.
var invalidIDs = map[string]string{
	"empty": "", "text": "web", "scheme-alone": "spiffe://", "other-scheme": "https://td/ns/default/dc/d/svc/web",
	"no-scheme": "//td/ns/default/dc/d/svc/web", "opaque": "spiffe:td/ns/default/dc/d/svc/web", "one-slash": "spiffe:/td/ns/default/dc/d/svc/web",
	"no-trust-domain": "spiffe:///ns/default/dc/d/svc/web", "user": "spiffe://u@td/ns/default/dc/d/svc/web", "port": "spiffe://td:1/ns/default/dc/d/svc/web",
	"address": "spiffe://[::1]/ns/default/dc/d/svc/web", "host-escape": "spiffe://t%64/ns/default/dc/d/svc/web",
	"query": "spiffe://td/ns/default/dc/d/svc/web?x=1", "empty-query": "spiffe://td/ns/default/dc/d/svc/web?", "fragment": "spiffe://td/ns/default/dc/d/svc/web#x",
	"escape": "spiffe://td/ns/default/dc/d/svc/w%65b", "escaped-slash": "spiffe://td/ns/default/dc/d/svc/a%2Fb", "bad-escape": "spiffe://td/ns/default/dc/d/svc/%zz",
	"dot": "spiffe://td/ns/default/dc/d/svc/.", "dot-dot": "spiffe://td/ns/default/dc/d/svc/..", "dot-namespace": "spiffe://td/ns/./dc/d/svc/web", "dot-dot-datacenter": "spiffe://td/ns/default/dc/../svc/web",
	"dot-trust-domain": "spiffe://./ns/default/dc/d/svc/web", "trailing-slash": "spiffe://td/ns/default/dc/d/svc/web/", "double-slash": "spiffe://td//ns/default/dc/d/svc/web",
	"empty-name": "spiffe://td/ns/default/dc/d/svc/", "empty-namespace": "spiffe://td/ns//dc/d/svc/web", "empty-datacenter": "spiffe://td/ns/default/dc//svc/web", "empty-partition": "spiffe://td/ap//ns/default/dc/d/svc/web",
	"no-namespace": "spiffe://td/dc/d/svc/web", "no-datacenter": "spiffe://td/ns/default/svc/web", "no-service": "spiffe://td/ns/default/dc/d", "extra": "spiffe://td/ns/default/dc/d/svc/web/v2", "reordered": "spiffe://td/dc/d/ns/default/svc/web",
	"upper-label": "spiffe://td/NS/default/dc/d/svc/web", "two-partitions": "spiffe://td/ap/a/ap/b/ns/default/dc/d/svc/web",
	"wildcard": "spiffe://td/ns/default/dc/d/svc/*", "wildcard-namespace": "spiffe://td/ns/*/dc/d/svc/web",
	"space": "spiffe://td/ns/default/dc/d/svc/a b", "leading-space": " spiffe://td/ns/default/dc/d/svc/web", "trailing-space": "spiffe://td/ns/default/dc/d/svc/web ", "newline": "spiffe://td/ns/default/dc/d/svc/web\n", "nul": "spiffe://td/ns/default/dc/d/svc/w\x00b",
	"semicolon": "spiffe://td/ns/default/dc/d/svc/web;a", "backslash": `spiffe://td\ns\default\dc\d\svc\web`, "non-ascii": "spiffe://td/ns/default/dc/d/svc/wéb", "folded-s": "\u017fpiffe://td/ns/default/dc/d/svc/web",
	"agent": "spiffe://td/agent/client/dc/d/id/n", "server": "spiffe://td/agent/server/dc/d", "gateway": "spiffe://td/gateway/mesh/dc/d", "signing": "spiffe://td.consul", "signing-slash": "spiffe://td.consul/",
	"long-name": "spiffe://t/ns/default/dc/d/svc/" + strings.Repeat("a", 254),
	"too-long":  "spiffe://" + strings.Repeat("a", 2040) + "/ns/default/dc/d/svc/web",
}

func TestParseIDRefuses(t *testing.T) {
	for name, uri := range invalidIDs {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseID(uri); err != ErrInvalidID || got != (ID{}) {
				t.Errorf("got %+v, %v; want nothing and %v", got, err, ErrInvalidID)
			}
		})
	}
}

func TestParseIDAllocatesNothing(t *testing.T) {
	got := testing.AllocsPerRun(100, func() {
		_, _ = ParseID("spiffe://td.consul/ap/billing/ns/default/dc/dc1/svc/web")
		_, _ = ParseID("spiffe://td.consul/ns/default/dc/dc1/svc/%77eb")
	})
	if got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

func TestSameTrustDomain(t *testing.T) {
	id := ID{TrustDomain: "Td.Consul"}
	for td, want := range map[string]bool{"td.consul": true, "Td.Consul": true, "TD.CONSUL": true, "td.consul.": false, "td": false, "": false} {
		if got := id.SameTrustDomain(td); got != want {
			t.Errorf("%q: got %v, want %v", td, got, want)
		}
	}
}

// almostID draws texts near the border of what is valid.
func almostID(t *rapid.T) string {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"default", "web", "Web", "a.b-c_d", ".", "..", "...", "", "*", "a b", "%41", "%2F", "%zz", "é", "a:1", "u@h", "?", "#", "ap", "ns", "dc", "svc"}),
		rapid.StringMatching(`[a-zA-Z0-9._-]{1,8}`),
	)
	scheme := rapid.SampledFrom([]string{"spiffe://", "spiffe://", "spiffe://", "SPIFFE://", "Spiffe://", "spiffe:/", "spiffe:", "http://"}).Draw(t, "scheme")
	ap := ""
	if rapid.Bool().Draw(t, "partitioned") {
		ap = "/ap/" + part.Draw(t, "ap")
	}
	words := rapid.SampledFrom([][3]string{{"/ns/", "/dc/", "/svc/"}, {"/ns/", "/dc/", "/svc/"}, {"/ns/", "/dc/", "/svc/"}, {"/NS/", "/dc/", "/svc/"}, {"/n%73/", "/dc/", "/svc/"}, {"/ns/", "/dc/", "/s%76c/"}, {"/agent/client/", "/dc/", "/id/"}}).Draw(t, "words")
	tail := rapid.SampledFrom([]string{"", "", "", "", "/", "?q", "#f", " ", "/x"}).Draw(t, "tail")
	return scheme + part.Draw(t, "td") + ap + words[0] + part.Draw(t, "ns") + words[1] + part.Draw(t, "dc") + words[2] + part.Draw(t, "svc") + tail
}

// checkID holds ParseID to what it promises about one text.
func checkID(fail func(format string, args ...any), uri string) {
	id, err := ParseID(uri)
	if err != nil {
		if id != (ID{}) {
			fail("ParseID(%q) gave %+v with an error", uri, id)
		}
		return
	}
	lax, err := ParseURI(uri)
	if err != nil || lax != id {
		fail("ParseID(%q) gave %+v, ParseURI %+v, %v", uri, id, lax, err)
	}
	again, err := ParseID(id.String())
	if err != nil || again != id {
		fail("%q was parsed as %+v, and its text %q as %+v, %v", uri, id, id, again, err)
	}
	for _, part := range []string{id.TrustDomain, id.Service.Partition, id.Service.Namespace, id.Service.Name, id.Datacenter} {
		if !ValidName(part) {
			fail("ParseID(%q) gave the part %q", uri, part)
		}
	}
}

func TestParseIDAgreesWithParseURI(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkID(t.Fatalf, almostID(t)) })
}

func FuzzParseID(f *testing.F) {
	f.Add("spiffe://td.consul/ns/default/dc/dc1/svc/web")
	f.Add("spiffe://td.consul/ap/Billing/ns/default/dc/dc1/svc/web")
	for _, uri := range invalidIDs {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) { checkID(t.Fatalf, uri) })
}
