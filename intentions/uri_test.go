package intentions

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The forms of Consul's identities (its package agent/connect), matched against
// the path as it was written.
var (
	consulService = regexp.MustCompile(`^(?:/ap/([^/]+))?/ns/([^/]+)/dc/([^/]+)/svc/([^/]+)$`)
	consulOthers  = []*regexp.Regexp{
		regexp.MustCompile(`^(?:/ap/([^/]+))?/agent/client/dc/([^/]+)/id/([^/]+)$`),
		regexp.MustCompile(`^(?:/ap/([^/]+))?/gateway/mesh/dc/([^/]+)$`),
		regexp.MustCompile(`^/agent/server/dc/([^/]+)$`),
	}
)

// parseAsConsul is ParseURI in the words of Consul's own rules, slow and
// obvious.
func parseAsConsul(raw string) (ID, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "spiffe" {
		return ID{}, ErrNotConnectURI
	}
	path := u.Path
	if u.RawPath != "" {
		path = u.RawPath
	}
	if m := consulService.FindStringSubmatch(path); m != nil {
		for i := range m {
			if u.RawPath == "" {
				continue
			}
			if m[i], err = url.PathUnescape(m[i]); err != nil {
				return ID{}, ErrNotConnectURI
			}
		}
		if m[1] == "" {
			m[1] = DefaultPart
		}
		return ID{TrustDomain: u.Host, Service: Service{strings.ToLower(m[1]), m[2], m[4]}, Datacenter: m[3]}, nil
	}
	for _, other := range consulOthers {
		if other.MatchString(path) {
			return ID{}, ErrNotServiceURI
		}
	}
	if u.Path == "" && strings.Index(u.Host, ".") > 0 {
		return ID{}, ErrNotServiceURI
	}
	return ID{}, ErrNotConnectURI
}

func TestParseURI(t *testing.T) {
	web := func(host, partition, namespace, name string) ID {
		return ID{host, Service{partition, namespace, name}, "dc1"}
	}
	tests := []struct {
		name, uri string
		want      ID
		err       error
	}{
		{"plain", "spiffe://td.consul/ns/default/dc/dc1/svc/web", web("td.consul", "default", "default", "web"), nil},
		{"partition", "spiffe://td/ap/Foo/ns/default/dc/dc1/svc/web", web("td", "foo", "default", "web"), nil},
		{"scheme-any-case", "SPIFFE://td/ns/default/dc/dc1/svc/web", web("td", "default", "default", "web"), nil},
		{"escaped-name", "spiffe://td/ns/default/dc/dc1/svc/w%65b", web("td", "default", "default", "web"), nil},
		{"escaped-slash-stays-inside", "spiffe://td/ns/default/dc/dc1/svc/a%2Fb", web("td", "default", "default", "a/b"), nil},
		{"escaped-label", "spiffe://td/n%73/default/dc/dc1/svc/web", ID{}, ErrNotConnectURI},
		{"escaped-partition-label", "spiffe://td/%61p/x/ns/default/dc/dc1/svc/web", ID{}, ErrNotConnectURI},
		{"escaped-service-label", "spiffe://td/ns/default/dc/dc1/%73vc/web", ID{}, ErrNotConnectURI},
		{"escaped-agent-label", "spiffe://td/%61gent/server/dc/dc1", ID{}, ErrNotConnectURI},
		{"user-is-ignored", "spiffe://u:p@td/ns/default/dc/dc1/svc/web", web("td", "default", "default", "web"), nil},
		{"query-and-fragment-are-ignored", "spiffe://td/ns/default/dc/dc1/svc/web?a=b#c", web("td", "default", "default", "web"), nil},
		{"port-stays-with-the-host", "spiffe://td:80/ns/default/dc/dc1/svc/web", web("td:80", "default", "default", "web"), nil},
		{"raw-space", "spiffe://td/ns/default/dc/dc1/svc/a b", web("td", "default", "default", "a b"), nil},
		{"wildcard", "spiffe://td/ns/default/dc/dc1/svc/*", web("td", "default", "default", "*"), nil},
		{"no-host", "spiffe:///ns/default/dc/dc1/svc/web", web("", "default", "default", "web"), nil},
		{"agent", "spiffe://td/agent/client/dc/dc1/id/n", ID{}, ErrNotServiceURI},
		{"agent-partition", "spiffe://td/ap/x/agent/client/dc/dc1/id/n", ID{}, ErrNotServiceURI},
		{"server", "spiffe://td/agent/server/dc/dc1", ID{}, ErrNotServiceURI},
		{"server-partition", "spiffe://td/ap/x/agent/server/dc/dc1", ID{}, ErrNotConnectURI},
		{"gateway", "spiffe://td/gateway/mesh/dc/dc1", ID{}, ErrNotServiceURI},
		{"signing", "spiffe://td.consul", ID{}, ErrNotServiceURI},
		{"signing-dot-first", "spiffe://.consul", ID{}, ErrNotConnectURI},
		{"signing-no-dot", "spiffe://td", ID{}, ErrNotConnectURI},
		{"signing-slash", "spiffe://td.consul/", ID{}, ErrNotConnectURI},
		{"upper-label", "spiffe://td/NS/default/dc/dc1/svc/web", ID{}, ErrNotConnectURI},
		{"trailing-slash", "spiffe://td/ns/default/dc/dc1/svc/web/", ID{}, ErrNotConnectURI},
		{"empty-partition", "spiffe://td/ap//ns/default/dc/dc1/svc/web", ID{}, ErrNotConnectURI},
		{"other-scheme", "https://td/ns/default/dc/dc1/svc/web", ID{}, ErrNotConnectURI},
		{"control-byte", "spiffe://td/ns/default/dc/dc1/svc/w\x00b", ID{}, ErrNotConnectURI},
		{"bad-escape", "spiffe://td/ns/default/dc/dc1/svc/%zz", ID{}, ErrNotConnectURI},
		{"empty", "", ID{}, ErrNotConnectURI},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseURI(tt.uri)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, tt.want, tt.err)
			}
			if slow, slowErr := parseAsConsul(tt.uri); slow != tt.want || !errors.Is(slowErr, tt.err) {
				t.Errorf("the reference gives %+v, %v; want %+v, %v", slow, slowErr, tt.want, tt.err)
			}
		})
	}
}

func checkURI(fail func(format string, args ...any), uri string) {
	got, err := ParseURI(uri)
	want, wantErr := parseAsConsul(uri)
	if got != want || !errors.Is(err, wantErr) {
		fail("ParseURI(%q) gave %+v, %v; Consul's rules %+v, %v", uri, got, err, want, wantErr)
	}
}

func TestParseURIFollowsConsul(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkURI(t.Fatalf, almostID(t)) })
}

func FuzzParseURI(f *testing.F) {
	f.Add("spiffe://td.consul/ap/x/ns/default/dc/dc1/svc/a%2Fb?q#f")
	f.Add("spiffe://td/n%73/default/dc/dc1/svc/web")
	for _, uri := range invalidIDs {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) { checkURI(t.Fatalf, uri) })
}
