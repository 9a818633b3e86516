package consul

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/intentions"
)

// Config says where Consul is and with which tokens to ask. What is empty
// comes from Consul's usual environment variables (CONSUL_HTTP_ADDR,
// CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_SSL, CONSUL_CACERT,
// CONSUL_CAPATH, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY,
// CONSUL_TLS_SERVER_NAME), and else from Consul's defaults.
type Config struct {
	// Address is http://HOST:PORT (loopback only), https://HOST:PORT or
	// unix:///PATH.
	Address string
	// TokenFile holds the token for everything that services share.
	TokenFile string
	// ServiceTokenFiles hold the tokens that sign for one service each.
	ServiceTokenFiles map[intentions.Service]string
	CAFile, CAPath    string
	CertFile, KeyFile string
	ServerName        string
	// SignaturesPerSecond paces the requests for first leaves; a whole
	// datacenter has 50 a second. 0 means 5.
	SignaturesPerSecond float64
	Logger              hclog.Logger
}

// endpoint is a checked address.
type endpoint struct {
	// base is the scheme and host of request URLs.
	base *url.URL
	// socket is the path of a Unix socket, or empty.
	socket string
	tls    *tls.Config
}

// errInsecure is the answer to every way of switching verification off.
var errInsecure = errors.New("TLS verification of Consul cannot be switched off " +
	"(CONSUL_HTTP_SSL_VERIFY=false): give the agent's CA with ca_file or CONSUL_CACERT instead")

// resolve lays the configuration over Consul's environment variables.
func (c Config) resolve() (*api.Config, error) {
	merged := api.DefaultConfig()
	if c.Address != "" {
		merged.Address = c.Address
		merged.Scheme = "http"
	}
	t := &merged.TLSConfig
	for _, f := range []struct {
		to    *string
		value string
	}{
		{&t.CAFile, c.CAFile}, {&t.CAPath, c.CAPath}, {&t.CertFile, c.CertFile},
		{&t.KeyFile, c.KeyFile}, {&t.Address, c.ServerName},
	} {
		if f.value != "" {
			*f.to = f.value
		}
	}
	if t.InsecureSkipVerify {
		return nil, errInsecure
	}
	return merged, nil
}

// newEndpoint checks the address: keys and tokens never travel in clear beyond
// this host.
func newEndpoint(c *api.Config) (*endpoint, error) {
	address := c.Address
	if !strings.Contains(address, "://") {
		address = c.Scheme + "://" + address
	}
	if c.Scheme == "https" {
		address = strings.Replace(address, "http://", "https://", 1)
	}
	u, err := url.Parse(address)
	if err != nil {
		// The text of the error repeats the address, which may hold a password.
		return nil, errors.New("the address of Consul is not a valid URL")
	}
	switch u.Scheme {
	case "unix":
		path := u.Path
		if u.Host != "" {
			path = u.Host + u.Path
		}
		return &endpoint{base: &url.URL{Scheme: "http", Host: "localhost"}, socket: path}, nil
	case "https":
		conf, err := api.SetupTLSConfig(&c.TLSConfig)
		if err != nil {
			return nil, fmt.Errorf("TLS settings for Consul: %w", err)
		}
		conf.MinVersion = tls.VersionTLS12
		return &endpoint{base: &url.URL{Scheme: "https", Host: u.Host, Path: u.Path}, tls: conf}, nil
	case "http":
		if !isLoopback(u.Hostname()) {
			return nil, fmt.Errorf("consul address %s is plain HTTP to another host, which would "+
				"send keys and tokens in clear; use https:// or an agent on this host", u.Redacted())
		}
		return &endpoint{base: &url.URL{Scheme: "http", Host: u.Host, Path: u.Path}}, nil
	}
	return nil, fmt.Errorf("consul address %s: the scheme must be http, https or unix", u.Redacted())
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// multiplexed reports whether many held queries share one connection: HTTP/2,
// which the agent offers over TLS only.
func (e *endpoint) multiplexed() bool { return e.tls != nil }

// String names the endpoint for people.
func (e *endpoint) String() string {
	if e.socket != "" {
		return "unix://" + e.socket
	}
	return e.base.String()
}
