package consul

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectd/connectd/intentions"
)

// cleanEnvironment takes Consul's variables away for one test.
func cleanEnvironment(t *testing.T) {
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "CONSUL_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		name    string
		address string
		env     map[string]string
		want    string
		refused string
	}{
		{"default", "", nil, "http://localhost:8500", ""},
		{"loopback", "http://127.0.0.1:8500", nil, "http://127.0.0.1:8500", ""},
		{"loopback_network", "http://127.9.9.9:80", nil, "http://127.9.9.9:80", ""},
		{"bare", "127.0.0.1:8500", nil, "http://127.0.0.1:8500", ""},
		{"localhost", "http://localhost:8500", nil, "http://localhost:8500", ""},
		{"ipv6", "http://[::1]:8500", nil, "http://[::1]:8500", ""},
		{"https", "https://consul.example:8501", nil, "https://consul.example:8501", ""},
		{"socket", "unix:///run/consul.sock", nil, "unix:///run/consul.sock", ""},
		{"remote", "http://10.0.0.1:8500", nil, "", "in clear"},
		{"remote_name", "http://consul.example:8500", nil, "", "in clear"},
		{"remote_bare", "10.0.0.1:8500", nil, "", "in clear"},
		{"all_interfaces", "http://0.0.0.0:8500", nil, "", "in clear"},
		{"no_host", "http://:8500", nil, "", "in clear"},
		{"trick_name", "http://127.0.0.1.example.com:8500", nil, "", "in clear"},
		{"trick_user", "http://127.0.0.1:8500@evil.example", nil, "", "in clear"},
		{"trick_localhost", "http://localhost.evil.example:8500", nil, "", "in clear"},
		{"ftp", "ftp://127.0.0.1:8500", nil, "", "scheme"},
		{"no_url", "http://127.0.0.1:85 00", nil, "", "valid"},
		{"env", "", map[string]string{"CONSUL_HTTP_ADDR": "127.0.0.1:9999"}, "http://127.0.0.1:9999", ""},
		{"env_tls", "", map[string]string{"CONSUL_HTTP_ADDR": "a.example:1", "CONSUL_HTTP_SSL": "true"}, "https://a.example:1", ""},
		{"env_https", "", map[string]string{"CONSUL_HTTP_ADDR": "https://a.example:1"}, "https://a.example:1", ""},
		{"env_socket", "", map[string]string{"CONSUL_HTTP_ADDR": "unix:///a/b"}, "unix:///a/b", ""},
		{"env_remote", "", map[string]string{"CONSUL_HTTP_ADDR": "http://a.example:1"}, "", "in clear"},
		{"config_wins", "http://127.0.0.1:1", map[string]string{"CONSUL_HTTP_ADDR": "https://a.example:1"}, "http://127.0.0.1:1", ""},
		{"config_wins_over_tls", "127.0.0.1:1", map[string]string{"CONSUL_HTTP_SSL": "true"}, "http://127.0.0.1:1", ""},
		{"no_verification", "https://a.example:1", map[string]string{"CONSUL_HTTP_SSL_VERIFY": "false"}, "", "CONSUL_HTTP_SSL_VERIFY"},
		{"no_verification_0", "", map[string]string{"CONSUL_HTTP_SSL_VERIFY": "0"}, "", "CONSUL_HTTP_SSL_VERIFY"},
		{"verification", "https://a.example:1", map[string]string{"CONSUL_HTTP_SSL_VERIFY": "true"}, "https://a.example:1", ""},
		{"no_ca_file", "https://a.example:1", map[string]string{"CONSUL_CACERT": "/nonexistent/ca.pem"}, "", "TLS settings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cleanEnvironment(t)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			s, err := New(Config{Address: c.address})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("got %v, want an error with %q", err, c.refused)
				}
				return
			}
			if err != nil || s.Address() != c.want {
				t.Fatalf("got error %v, want address %s", err, c.want)
			}
			if path, want := s.SocketPath(), strings.TrimPrefix(c.want, "unix://"); path != "" && path != want {
				t.Errorf("got socket %s, want %s", path, want)
			}
			if strings.HasPrefix(c.want, "https") && (s.endpoint.tls == nil || s.endpoint.tls.InsecureSkipVerify || s.endpoint.tls.MinVersion < 0x303) {
				t.Errorf("got TLS settings %+v", s.endpoint.tls)
			}
		})
	}
}

// TestAddressHidesPasswords keeps what an address may carry out of errors.
func TestAddressHidesPasswords(t *testing.T) {
	cleanEnvironment(t)
	for _, address := range []string{
		"http://me:hush@10.0.0.1:8500", "ftp://me:hush@10.0.0.1", "http://me:hush@10.0.0.1:85 00", "https://me:hush@10.0.0.1",
	} {
		s, err := New(Config{Address: address})
		if err != nil && strings.Contains(err.Error(), "hush") || err == nil && strings.Contains(s.Address(), "hush") {
			t.Errorf("got %v", err)
		}
	}
}

func TestTokensFromTheEnvironment(t *testing.T) {
	file := tokenFile(t, "from-file")
	for _, c := range []struct {
		name   string
		config Config
		env    map[string]string
		want   string
	}{
		{"none", Config{}, nil, ""},
		{"value", Config{}, map[string]string{"CONSUL_HTTP_TOKEN": "from-env"}, "from-env"},
		{"file", Config{}, map[string]string{"CONSUL_HTTP_TOKEN": "from-env", "CONSUL_HTTP_TOKEN_FILE": file}, "from-file"},
		{"config", Config{TokenFile: file}, map[string]string{"CONSUL_HTTP_TOKEN": "from-env"}, "from-file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cleanEnvironment(t)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			s := must(New(c.config))(t)
			if got := s.read.value().Reveal(); got != c.want {
				t.Errorf("got token %q, want %q", got, c.want)
			}
		})
	}
}

// TestBadTokenFileIsRefusedAtStart names the service that it is for.
func TestBadTokenFileIsRefusedAtStart(t *testing.T) {
	cleanEnvironment(t)
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []Config{
		{TokenFile: missing},
		{ServiceTokenFiles: map[intentions.Service]string{web: missing}},
		{TokenFile: tokenFile(t, "two words of a secret")},
	} {
		_, err := New(c)
		if err == nil || strings.Contains(err.Error(), "words") {
			t.Errorf("got %v", err)
		}
		if c.ServiceTokenFiles != nil && !strings.Contains(err.Error(), `"web"`) {
			t.Errorf("got %v, which does not name the service", err)
		}
	}
}
