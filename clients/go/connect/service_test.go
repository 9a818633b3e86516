package connect

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/clients/go/connectd/connectdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service makes a ready service of the daemon that CONNECTD_SOCKET names.
func service(t *testing.T, name string) *Service {
	t.Helper()
	s, err := NewServiceWithLogger(name, consul(t, "http://127.0.0.1:1"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	select {
	case <-s.ReadyWait():
	case <-time.After(20 * time.Second):
		t.Fatalf("%s is not ready: %v", name, s.Source().Err())
	}
	if !s.Ready() || s.Name() != name {
		t.Errorf("got %t, %s", s.Ready(), s.Name())
	}
	return s
}

func consul(t *testing.T, address string) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address = address
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// serve answers HTTPS with the service's configuration, as the SDK's page does.
func serve(t *testing.T, s *Service) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: s.ServerTLSConfig(), ErrorLog: hclog.NewNullLogger().StandardLogger(nil),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].URIs[0].Path)
		})}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr()
}

func fetch(c *http.Client, url string) (string, error) {
	defer c.CloseIdleConnections()
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestServiceOnBothEnds(t *testing.T) {
	d := connectdtest.Denied(t)
	d.Allow("web", "db")
	t.Setenv(connectd.EnvSocket, d.Socket())
	db, web := service(t, "db"), service(t, "web")
	address := serve(t, db)
	d.Register("db", address)
	const url, want = "https://db.service.consul/", "/ns/default/dc/dc1/svc/web"
	t.Run("http-client", func(t *testing.T) {
		if got, err := fetch(web.HTTPClient(), url); got != want {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("http-dial-tls", func(t *testing.T) {
		//lint:ignore SA1019 It is the field that the SDK's page names.
		transport := &http.Transport{DialTLS: web.HTTPDialTLS}
		if got, err := fetch(&http.Client{Transport: transport}, url); got != want {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("denied", func(t *testing.T) {
		if got, err := fetch(service(t, "stranger").HTTPClient(), url); err == nil {
			t.Errorf("got %q", got)
		}
	})
	t.Run("dial", func(t *testing.T) {
		conn, err := web.Dial(t.Context(), &StaticResolver{
			Addr: address.String(), CertURI: &SpiffeIDService{Host: "placeholder.consul", Datacenter: "dc1", Service: "db"},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		uri, err := CertURIFromConn(conn)
		if err != nil || uri.URI().String() != connectdtest.ID("db") {
			t.Errorf("got %v, %v", uri, err)
		}
	})
	t.Run("dial-wrong-service", func(t *testing.T) {
		_, err := web.Dial(t.Context(), &StaticResolver{Addr: address.String(), CertURI: &SpiffeIDService{Datacenter: "dc1", Service: "orders"}})
		if err == nil || !strings.Contains(err.Error(), connectd.CodeWrongServerID) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("next-protos", func(t *testing.T) {
		s := &Service{source: db.source, protos: []string{"h2"}}
		l, err := tls.Listen("tcp", "127.0.0.1:0", s.ServerTLSConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if conn, err := l.Accept(); err == nil {
				_ = conn.(*tls.Conn).HandshakeContext(t.Context())
				_ = conn.Close()
			}
		}()
		config, err := connectd.ClientTLSConfig(web.Source(), "db")
		if err != nil {
			t.Fatal(err)
		}
		var conn net.Conn
		if conn, err = tls.Dial("tcp", l.Addr().String(), config); err != nil {
			t.Fatal(err)
		}
		if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "h2" {
			t.Errorf("got %q", got)
		}
		_ = conn.Close()
		<-done
	})
}

func TestServiceWithoutDaemon(t *testing.T) {
	t.Setenv(connectd.EnvSocket, filepath.Join(t.TempDir(), "none"))
	s, err := NewServiceWithLogger("web", nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.ReadyWait():
		t.Error("ready without a daemon")
	default:
	}
	_, err = s.Dial(t.Context(), &StaticResolver{Addr: "127.0.0.1:1", CertURI: &SpiffeIDService{Datacenter: "dc1", Service: "db"}})
	if s.Ready() || err == nil {
		t.Errorf("got ready=%t, %v", s.Ready(), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	make := ConsulResolverFromAddrFunc(nil)
	for addr, want := range map[string]ConsulResolver{
		"web.service.consul":         {Name: "web", Namespace: "default"},
		"web.service.consul:443":     {Name: "web", Namespace: "default"},
		"web.service.dc2.consul:443": {Name: "web", Namespace: "default", Datacenter: "dc2"},
		"near.query.consul":          {Name: "near", Namespace: "default", Type: ConsulResolverTypePreparedQuery},
		"near.query.dc2.consul:443":  {Name: "near", Namespace: "default", Datacenter: "dc2", Type: ConsulResolverTypePreparedQuery},
	} {
		got, err := make(addr)
		if err != nil || *got.(*ConsulResolver) != want {
			t.Errorf("%s: got %+v, %v", addr, got, err)
		}
	}
	for _, addr := range []string{"", "web", "web.consul", "tag.web.service.consul", "web.node.consul", "web.service.dc2.x.consul",
		"example.org:443", "10.0.0.1:443", "web.service.consul.example.org", "web.service.example"} {
		if got, err := make(addr); err == nil {
			t.Errorf("%s: got %+v", addr, got)
		}
	}
}

func TestConsulResolver(t *testing.T) {
	entry := func(service api.AgentService) api.ServiceEntry {
		return api.ServiceEntry{Node: &api.Node{Address: "10.0.0.1", Datacenter: "dc1"}, Service: &service}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/health/connect/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("passing") == "" {
			t.Error("instances that fail are asked for")
		}
		list := map[string][]api.ServiceEntry{
			"native": {entry(api.AgentService{Service: "native", Port: 1, Address: "10.0.0.2"})},
			"proxied": {entry(api.AgentService{Service: "proxied-sidecar-proxy", Kind: api.ServiceKindConnectProxy, Port: 2,
				Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "proxied"}})},
		}[r.PathValue("name")]
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("/v1/query/{name}/execute", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("connect") == "" {
			t.Error("the query is not for the mesh")
		}
		_ = json.NewEncoder(w).Encode(api.PreparedQueryExecuteResponse{Nodes: []api.ServiceEntry{
			entry(api.AgentService{Service: "native", Port: 3})}})
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	client := consul(t, server.URL)
	for _, tt := range []struct {
		name, address, id string
		kind              int
	}{
		{"native", "10.0.0.2:1", "/ns/default/dc/dc1/svc/native", 0},
		{"proxied", "10.0.0.1:2", "/ns/default/dc/dc1/svc/proxied", 0},
		{"near", "10.0.0.1:3", "/ns/default/dc/dc1/svc/native", ConsulResolverTypePreparedQuery},
	} {
		address, uri, err := (&ConsulResolver{Client: client, Name: tt.name, Type: tt.kind}).Resolve(t.Context())
		if err != nil || address != tt.address || uri.URI().Path != tt.id {
			t.Errorf("%s: got %s, %v, %v", tt.name, address, uri, err)
		}
	}
	for _, r := range []*ConsulResolver{{Client: client, Name: "none"}, {Client: client, Name: "none", Type: 7}} {
		if _, _, err := r.Resolve(t.Context()); err == nil {
			t.Errorf("%+v resolves", r)
		}
	}
}

func TestDevelopmentServiceFromFiles(t *testing.T) {
	d := connectdtest.Denied(t)
	answer, err := d.Source("db").Client().Snapshot(t.Context(), "db", connectd.SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s, err := NewDevServiceFromCertFiles("db", hclog.NewNullLogger(), file("ca.pem", answer.Bundle.Roots[0].CertificatePEM),
		file("leaf.pem", answer.Leaf.CertificatePEM), file("key.pem", answer.Leaf.PrivateKeyPEM.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, s)
	<-s.ReadyWait()
	for name, want := range map[string]bool{"db": true, "web": false} {
		conn, err := s.Dial(t.Context(), &StaticResolver{Addr: address.String(), CertURI: &SpiffeIDService{Datacenter: "dc1", Service: name}})
		if (err == nil) != want {
			t.Errorf("%s: got %v", name, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestParseCertURI(t *testing.T) {
	for text, want := range map[string]bool{
		"spiffe://td.consul/ns/default/dc/dc1/svc/web":          true,
		"spiffe://td.consul/ap/east/ns/team/dc/dc1/svc/web":     true,
		"spiffe://td.consul/agent/client/dc/dc1/id/node":        false,
		"https://td.consul/ns/default/dc/dc1/svc/web":           false,
		"spiffe://td.consul/ns/default/dc/dc1/svc/web?x=1":      false,
		"spiffe://user@td.consul/ns/default/dc/dc1/svc/web":     false,
		"spiffe://td.consul:8080/ns/default/dc/dc1/svc/web":     false,
		"spiffe://td.consul/ns/default/dc/dc1/svc/web/and/more": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseCertURI(u)
		if (err == nil) != want || err == nil && got.URI().String() != text {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	if _, err := ParseCertURI(nil); err == nil {
		t.Error("no URI is parsed")
	}
	if _, err := CertURIFromConn(&net.TCPConn{}); err == nil {
		t.Error("a connection without TLS has an identity")
	}
}
