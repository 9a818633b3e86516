package consultest

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
)

// An sdkTest is the app with the services web, other, db and raw, of which web may call db
// and raw, and db serves HTTP; late comes later and may call raw.
type sdkTest struct {
	*SDKApp
	agent *Agent
	db    string // its address
}

// TestSDKAppWithConsul runs the app against Consul itself. It is the control experiment:
// what fails against connectd and passes here is connectd's fault.
func TestSDKAppWithConsul(t *testing.T) {
	t.Parallel()
	a := Start(t, Options{DefaultIntentionPolicy: "deny", UnixSocket: true})
	a.WriteIntentions(t, "db", allow("web"))
	a.WriteIntentions(t, "raw", allow("web"), allow("late"))
	app := StartSDKApp(t, "unix://"+a.SocketPath)
	for _, name := range []string{"web", "other", "db", "raw"} {
		if !app.MustDo(t, SDKCommand{Do: "service", Name: name}).Ready {
			t.Errorf("%s is not ready", name)
		}
	}
	s := &sdkTest{SDKApp: app, agent: a}
	s.db = app.MustDo(t, SDKCommand{Do: "serve", Name: "db"}).Address
	a.RegisterNative(t, "db", portOf(t, s.db))
	t.Run("leaf", s.leaf)
	t.Run("roots", s.roots)
	t.Run("authorize", s.authorize)
	t.Run("dial", s.dial)
	t.Run("get", s.get)
	t.Run("storm", s.storm)
	t.Run("close", s.close)
}

func (s *sdkTest) id(t *testing.T, name string) string {
	t.Helper()
	return "spiffe://" + s.agent.TrustDomain(t) + "/ns/default/dc/dc1/svc/" + name
}

func (s *sdkTest) leaf(t *testing.T) {
	leaf := s.MustDo(t, SDKCommand{Do: "leaf", Name: "web"})
	if leaf.URI != s.id(t, "web") || leaf.Index == 0 {
		t.Errorf("%+v", leaf)
	}
	again := s.MustDo(t, SDKCommand{Do: "leaf", Name: "web", Index: leaf.Index, Wait: "100ms"})
	if again.Serial != leaf.Serial || again.MS < 100 {
		t.Errorf("blocking: %+v", again)
	}
}

func (s *sdkTest) roots(t *testing.T) {
	for _, uncached := range []bool{false, true} {
		roots := s.MustDo(t, SDKCommand{Do: "roots", Uncached: uncached})
		if roots.TrustDomain != s.agent.TrustDomain(t) || len(roots.Roots) != 1 || roots.Roots[0] != roots.Active {
			t.Errorf("uncached %v: %+v", uncached, roots)
		}
	}
}

func (s *sdkTest) authorize(t *testing.T) {
	for name, want := range map[string]bool{"web": true, "other": false} {
		got := s.MustDo(t, SDKCommand{Do: "authorize", Target: "db", URI: s.id(t, name)})
		if got.Authorized != want || got.Reason == "" {
			t.Errorf("%s to db: %+v", name, got)
		}
	}
	got := s.Do(t, SDKCommand{Do: "authorize", Target: "db", URI: "spiffe://x"})
	if got.OK || got.Code != 400 {
		t.Errorf("not a SPIFFE ID of a service: %+v", got)
	}
}

func (s *sdkTest) dial(t *testing.T) {
	serial := s.MustDo(t, SDKCommand{Do: "leaf", Name: "db"}).Serial
	for name, want := range map[string]bool{"web": true, "other": false} {
		for _, c := range []SDKCommand{
			{Do: "dial", Name: name, Address: s.db, Destination: "db"},
			{Do: "dial_consul", Name: name, Destination: "db"},
		} {
			got := s.MustDo(t, c)
			if got.Accepted != want || got.PeerURI != s.id(t, "db") || got.PeerSerial != serial {
				t.Errorf("%s as %s: %+v, want serial %s", c.Do, name, got, serial)
			}
		}
	}
	got := s.MustDo(t, SDKCommand{Do: "dial", Name: "web", Address: s.db, Destination: "raw"})
	if got.Accepted || !strings.Contains(got.Error, "mismatch") {
		t.Errorf("another destination: %+v", got)
	}
}

func (s *sdkTest) get(t *testing.T) {
	_, _, err := s.agent.Client(t).PreparedQuery().Create(&api.PreparedQueryDefinition{
		Name:    "find-db",
		Service: api.ServiceQuery{Service: "db", Connect: true, OnlyPassing: true},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"https://db.service.consul/", "https://find-db.query.consul/"} {
		got := s.MustDo(t, SDKCommand{Do: "get", Name: "web", URL: url})
		if !got.Accepted || got.Status != 200 || got.Body != s.id(t, "web") || got.PeerSerial == "" {
			t.Errorf("%s: %+v", url, got)
		}
		if got := s.MustDo(t, SDKCommand{Do: "get", Name: "other", URL: url}); got.Accepted {
			t.Errorf("%s as other: %+v", url, got)
		}
	}
}

// storm rotates the root under handshakes that must all succeed, and others that must all
// fail. A service that comes after the rotation has a leaf of the new root; raw keeps its
// own for up to half a minute, because Consul spreads renewals over that time.
func (s *sdkTest) storm(t *testing.T) {
	raw := s.MustDo(t, SDKCommand{Do: "serve_raw", Name: "raw"}).Address
	for _, name := range []string{"web", "other"} {
		s.MustDo(t, SDKCommand{Do: "storm_start", Name: name, Address: raw, Destination: "raw", Rate: 50})
	}
	s.handshakes(t, 10)
	s.agent.RotateRoot(t)
	s.MustDo(t, SDKCommand{Do: "service", Name: "late"})
	Eventually(t, stepTimeout, "a handshake with a leaf of the new root", func() error {
		got := s.MustDo(t, SDKCommand{Do: "dial", Name: "late", Address: raw, Destination: "raw"})
		if !got.Accepted {
			return errors.New(got.Error)
		}
		return nil
	})
	s.handshakes(t, 10)
	if web := s.MustDo(t, SDKCommand{Do: "storm_stop", Name: "web"}).Storm; web.OK == 0 || web.Failed > 0 {
		t.Errorf("web: %+v", *web)
	}
	if other := s.MustDo(t, SDKCommand{Do: "storm_stop", Name: "other"}).Storm; other.OK > 0 || other.Failed == 0 {
		t.Errorf("other: %+v", *other)
	}
}

// handshakes waits until both storms have made n more.
func (s *sdkTest) handshakes(t *testing.T, n int) {
	t.Helper()
	made := func(name string) int {
		storm := s.MustDo(t, SDKCommand{Do: "storm_status", Name: name}).Storm
		return storm.OK + storm.Failed
	}
	web, other := made("web"), made("other")
	Eventually(t, stepTimeout, "more handshakes", func() error {
		if made("web") < web+n || made("other") < other+n {
			return errors.New("not enough")
		}
		return nil
	})
}

func (s *sdkTest) close(t *testing.T) {
	s.MustDo(t, SDKCommand{Do: "close", Name: "db"})
	got := s.MustDo(t, SDKCommand{Do: "dial", Name: "web", Address: s.db, Destination: "db"})
	if got.Accepted {
		t.Errorf("%+v", got)
	}
	if got := s.Do(t, SDKCommand{Do: "serve", Name: "db"}); got.OK {
		t.Errorf("%+v", got)
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
