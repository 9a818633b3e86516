package daemon

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/connectd/connectd/cache/consul/consultest"
)

// sdkMesh is an unmodified application of Consul's official SDK whose whole
// world is connectd's socket: a server db and a client web.
type sdkMesh struct {
	agent *consultest.Agent
	app   *consultest.SDKApp
	db    string
}

func startSDKMesh(t *testing.T) sdkMesh {
	t.Helper()
	agent := consultest.Start(t, consultest.Options{DefaultIntentionPolicy: "deny"})
	agent.WriteIntentions(t, "db", allow("web"))
	d := start(t, newConfig(t, agent.Addr()))
	app := consultest.StartSDKApp(t, "unix://"+d.config.Socket.Path)
	for _, name := range []string{"db", "web", "stranger"} {
		app.MustDo(t, consultest.SDKCommand{Do: "service", Name: name, Timeout: "20s"})
	}
	m := sdkMesh{agent: agent, app: app}
	m.db = app.MustDo(t, consultest.SDKCommand{Do: "serve", Name: "db"}).Address
	_, port, err := net.SplitHostPort(m.db)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	agent.RegisterNative(t, "db", n)
	agent.RegisterNative(t, "web", 1)
	return m
}

func (m sdkMesh) dial(t *testing.T, source string) consultest.SDKAnswer {
	t.Helper()
	return m.app.MustDo(t, consultest.SDKCommand{Do: "dial", Name: source, Address: m.db, Destination: "db"})
}

func TestSDKApplication(t *testing.T) {
	t.Parallel()
	m := startSDKMesh(t)
	t.Run("dial-static", func(t *testing.T) {
		if got := m.dial(t, "web"); !got.Accepted || !strings.HasSuffix(got.PeerURI, "/svc/db") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("denied-source", func(t *testing.T) {
		if got := m.dial(t, "stranger"); got.Accepted {
			t.Errorf("a source without an intention was accepted: %+v", got)
		}
	})
	t.Run("dial-consul", func(t *testing.T) {
		got := m.app.MustDo(t, consultest.SDKCommand{Do: "dial_consul", Name: "web", Destination: "db"})
		if !got.Accepted {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("https-service", func(t *testing.T) {
		got := m.app.MustDo(t, consultest.SDKCommand{Do: "get", Name: "web", URL: "https://db.service.consul/"})
		if got.Status != 200 || !strings.Contains(got.Body, "/svc/web") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("https-query", func(t *testing.T) {
		m.createQuery(t, "db-query", "db")
		got := m.app.MustDo(t, consultest.SDKCommand{Do: "get", Name: "web", URL: "https://db-query.query.consul/"})
		if got.Status != 200 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("short-wait-polling", m.pollWithShortWaits)
	t.Run("ten-flips", m.followFlips)
}

func (m sdkMesh) createQuery(t *testing.T, name, service string) {
	t.Helper()
	_, _, err := m.agent.Client(t).PreparedQuery().Create(&api.PreparedQueryDefinition{
		Name: name, Service: api.ServiceQuery{Service: service, Connect: true},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// pollWithShortWaits does what Consul's documents recommend where long polls
// are hard: blocking parameters with a very short wait.
func (m sdkMesh) pollWithShortWaits(t *testing.T) {
	first := m.app.MustDo(t, consultest.SDKCommand{Do: "leaf", Name: "web"})
	for range 3 {
		began := time.Now()
		got := m.app.MustDo(t, consultest.SDKCommand{Do: "leaf", Name: "web", Index: first.Index, Wait: "200ms"})
		if took := time.Since(began); took < 200*time.Millisecond || took > 2*time.Second {
			t.Errorf("a wait of 200ms took %s", took)
		}
		if got.Serial != first.Serial || got.Index != first.Index {
			t.Errorf("got %+v, want the same leaf", got)
		}
	}
	roots := m.app.MustDo(t, consultest.SDKCommand{Do: "roots"})
	if again := m.app.MustDo(t, consultest.SDKCommand{Do: "roots", Index: roots.Index, Wait: "200ms"}); again.Index != roots.Index {
		t.Errorf("got index %d, want %d", again.Index, roots.Index)
	}
}

func (m sdkMesh) followFlips(t *testing.T) {
	for i := range 10 {
		want := i%2 == 1
		source := deny("web")
		if want {
			source = allow("web")
		}
		m.agent.WriteIntentions(t, "db", source)
		began := time.Now()
		consultest.Eventually(t, 5*time.Second, fmt.Sprintf("flip %d", i), func() error {
			if got := m.dial(t, "web"); got.Accepted != want {
				return fmt.Errorf("got accepted=%v: %s", got.Accepted, got.Error)
			}
			return nil
		})
		if took := time.Since(began); took > time.Second {
			t.Errorf("flip %d was seen after %s", i, took)
		}
	}
	t.Log("10 of 10 flips seen within a second")
}

// TestSDKSurvivesRotations rotates the root five times while the SDK shakes
// hands without a pause.
func TestSDKSurvivesRotations(t *testing.T) {
	t.Parallel()
	m := startSDKMesh(t)
	m.app.MustDo(t, consultest.SDKCommand{Do: "storm_start", Name: "web", Address: m.db, Destination: "db", Rate: 20})
	for i := range 5 {
		m.agent.RotateRoot(t)
		// The next rotation comes only when the server presents a leaf of the
		// new root.
		consultest.Eventually(t, time.Minute, fmt.Sprintf("leaf after rotation %d", i+1), func() error {
			got := m.app.MustDo(t, consultest.SDKCommand{Do: "storm_status", Name: "web"})
			if got.Storm.PeerSerials < i+2 {
				return fmt.Errorf("%d different leaves so far, %d failures", got.Storm.PeerSerials, got.Storm.Failed)
			}
			return nil
		})
	}
	storm := m.app.MustDo(t, consultest.SDKCommand{Do: "storm_stop", Name: "web", Timeout: "20s"}).Storm
	if storm.Failed > 0 || storm.OK == 0 {
		t.Errorf("%d handshakes failed of %d: %v", storm.Failed, storm.OK+storm.Failed, storm.Errors)
	}
	t.Logf("5 rotations, %d handshakes, %d failed", storm.OK, storm.Failed)
}
