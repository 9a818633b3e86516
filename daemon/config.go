package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// Defaults of the configuration.
const (
	DefaultSocket   = "/run/connectd/connectd.sock"
	DefaultStoreDir = "/var/lib/connectd"
	DefaultFile     = "/etc/connectd/connectd.hcl"
	adminName       = "admin.sock"
)

// Config is the configuration of the daemon, from one file.
type Config struct {
	Consul   ConsulConfig
	Socket   SocketConfig
	Admin    SocketConfig
	StoreDir string
	// StoreKeyFile holds the key of the store; empty takes a systemd credential
	// or generates one.
	StoreKeyFile string
	// StoreInClear leaves the store unencrypted.
	StoreInClear bool
	// MaxStale is the age past which every decision is deny.
	MaxStale time.Duration
	// DefaultAction is allow, deny, or empty to take it from Consul.
	DefaultAction string
	LogLevel      string
	LogJSON       bool
	Services      []ServiceConfig
	// Pin is how the kernel is asked to hold a process; nil is the usual way.
	Pin socketapi.Pin `json:"-"`
}

// ConsulConfig says where Consul is. What is empty comes from Consul's
// environment variables.
type ConsulConfig struct {
	Address             string  `hcl:"address,optional"`
	TokenFile           string  `hcl:"token_file,optional"`
	CAFile              string  `hcl:"ca_file,optional"`
	CAPath              string  `hcl:"ca_path,optional"`
	CertFile            string  `hcl:"cert_file,optional"`
	KeyFile             string  `hcl:"key_file,optional"`
	ServerName          string  `hcl:"tls_server_name,optional"`
	TrustDomain         string  `hcl:"trust_domain,optional"`
	SignaturesPerSecond float64 `hcl:"signatures_per_second,optional"`
}

// SocketConfig is one Unix socket.
type SocketConfig struct {
	Path string
	Mode fs.FileMode
	// Group owns the socket; empty keeps the daemon's own.
	Group string
}

// ServiceConfig is one service block: its token and who may act for it.
type ServiceConfig struct {
	Name            string
	TokenFile       string
	AllowAnyService bool
	Allow           []AllowConfig
	// Socket is the service's own, or nil.
	Socket *DoorConfig
}

// DoorConfig is a service's own socket: whoever may open it is admitted, for
// that service alone.
type DoorConfig struct {
	Path string
	// Owner and Group own the socket; empty keeps the daemon's own.
	Owner string
	Group string
	Mode  fs.FileMode
}

// AllowConfig is one allow block; all its selectors must match.
type AllowConfig struct {
	User      string
	Group     string
	Unit      string
	Cgroup    string
	Container string
	Grants    []string
}

// The shapes of the file, before checking. Unknown keys are refused.
type fileShape struct {
	Consul   *ConsulConfig  `hcl:"consul,block"`
	Socket   *socketShape   `hcl:"socket,block"`
	Admin    *socketShape   `hcl:"admin,block"`
	Store    *storeShape    `hcl:"store,block"`
	Policy   *policyShape   `hcl:"policy,block"`
	Log      *logShape      `hcl:"log,block"`
	Services []serviceShape `hcl:"service,block"`
}

type socketShape struct {
	Path  string `hcl:"path,optional"`
	Group string `hcl:"group,optional"`
	Mode  string `hcl:"mode,optional"`
}

type storeShape struct {
	Dir        string `hcl:"dir,optional"`
	KeyFile    string `hcl:"key_file,optional"`
	Encryption string `hcl:"encryption,optional"`
}

type policyShape struct {
	MaxStale      string `hcl:"max_stale,optional"`
	DefaultAction string `hcl:"default_action,optional"`
}

type logShape struct {
	Level string `hcl:"level,optional"`
	JSON  bool   `hcl:"json,optional"`
}

type serviceShape struct {
	Name            string       `hcl:"name,label"`
	TokenFile       string       `hcl:"token_file,optional"`
	AllowAnyService bool         `hcl:"allow_any_service,optional"`
	Allow           []allowShape `hcl:"allow,block"`
	Socket          *doorShape   `hcl:"socket,block"`
	Range           hcl.Range    `hcl:",def_range"`
}

type allowShape struct {
	User      *string   `hcl:"user,optional"`
	Group     *string   `hcl:"group,optional"`
	Unit      *string   `hcl:"unit,optional"`
	Cgroup    *string   `hcl:"cgroup,optional"`
	Container *string   `hcl:"container,optional"`
	Grants    []string  `hcl:"grants,optional"`
	Range     hcl.Range `hcl:",def_range"`
}

type doorShape struct {
	Path  string    `hcl:"path"`
	Owner string    `hcl:"owner,optional"`
	Group string    `hcl:"group,optional"`
	Mode  string    `hcl:"mode,optional"`
	Range hcl.Range `hcl:",def_range"`
}

// DefaultConfig is what applies without a file.
func DefaultConfig() Config {
	return Config{
		Socket:   SocketConfig{Path: DefaultSocket, Mode: 0o660},
		Admin:    SocketConfig{Mode: 0o600},
		StoreDir: DefaultStoreDir,
		LogLevel: "info",
	}
}

// diagnosticError shows every problem with its place.
func diagnosticError(diags hcl.Diagnostics) error {
	return fmt.Errorf("configuration: %w", errors.Join(diags.Errs()...))
}

func (s *SocketConfig) apply(shape *socketShape, block string) error {
	if shape == nil {
		return nil
	}
	if shape.Path != "" {
		s.Path = shape.Path
	}
	s.Group = shape.Group
	if shape.Mode == "" {
		return nil
	}
	mode, err := parseMode(shape.Mode)
	if err != nil {
		return fmt.Errorf("%s: %w", block, err)
	}
	s.Mode = mode
	return nil
}

func parseMode(text string) (fs.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("mode %q is not an octal mode such as \"0660\"", text)
	}
	return fs.FileMode(mode), nil
}

func modeText(m fs.FileMode) string { return fmt.Sprintf("%04o", m) }

func (c *Config) applyPolicy(p *policyShape) error {
	if p == nil {
		return nil
	}
	switch p.DefaultAction {
	case "", "allow", "deny":
		c.DefaultAction = p.DefaultAction
	default:
		return fmt.Errorf("policy: default_action %q is neither \"allow\" nor \"deny\"", p.DefaultAction)
	}
	if p.MaxStale == "" {
		return nil
	}
	d, err := time.ParseDuration(p.MaxStale)
	if err != nil || d <= 0 {
		return fmt.Errorf("policy: max_stale %q is not a duration such as \"72h\"", p.MaxStale)
	}
	c.MaxStale = d
	return nil
}

// checkAdmin keeps the admin socket from everybody: whoever may open it sees
// everything.
func (c *Config) checkAdmin() error {
	if c.Admin.Mode&0o007 != 0 {
		return fmt.Errorf("admin: mode %04o would let everybody in; use \"0600\", or \"0660\" with a group", c.Admin.Mode)
	}
	return nil
}

func (c *Config) checkConsul() error {
	if td := c.Consul.TrustDomain; td != "" && !intentions.ValidName(td) {
		return fmt.Errorf("consul: trust_domain %q is not a trust domain such as \"<uuid>.consul\"", td)
	}
	if c.Consul.SignaturesPerSecond < 0 {
		return fmt.Errorf("consul: signatures_per_second %v is below zero", c.Consul.SignaturesPerSecond)
	}
	return nil
}

func (c *Config) checkLog() error {
	switch c.LogLevel {
	case "trace", "debug", "info", "warn", "error":
		return nil
	}
	return fmt.Errorf("log: level %q is not one of trace, debug, info, warn, error", c.LogLevel)
}

// AdminPath is the path of the admin socket, beside the main one by default.
func (c *Config) AdminPath() string {
	if c.Admin.Path != "" {
		return c.Admin.Path
	}
	return filepath.Join(filepath.Dir(c.Socket.Path), adminName)
}
