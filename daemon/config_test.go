package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

const wholeConfig = `
consul {
  address               = "http://127.0.0.1:8500"
  token_file            = "/etc/connectd/token"
  ca_file               = "/ca.pem"
  ca_path               = "/ca"
  cert_file             = "/cert.pem"
  key_file              = "/key.pem"
  tls_server_name       = "server.dc1.consul"
  trust_domain          = "11111111-2222-3333-4444-555555555555.consul"
  signatures_per_second = 2.5
}
socket {
  path  = "/run/x/connectd.sock"
  group = "mesh"
  mode  = "0666"
}
admin {
  path  = "/run/x/a.sock"
  group = "adm"
  mode  = "0660"
}
store {
  dir        = "/var/lib/x"
  key_file   = "/etc/connectd/store.key"
  encryption = "on"
}
policy {
  max_stale      = "1h30m"
  default_action = "deny"
}
log {
  level = "debug"
  json  = true
}
service "web" {
  token_file = "/etc/connectd/token.web"
  allow {
    user  = "www-data"
    group = "web"
  }
  allow {
    group  = "ops"
    grants = ["authorize", "status"]
  }
}
service "*" {
  allow_any_service = true
  allow {
    user = "monitor"
    grants = ["status"]
  }
}
`

func TestConfigEveryKey(t *testing.T) {
	got, err := ParseConfig("c.hcl", []byte(wholeConfig))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Consul: ConsulConfig{
			Address: "http://127.0.0.1:8500", TokenFile: "/etc/connectd/token", CAFile: "/ca.pem", CAPath: "/ca",
			CertFile: "/cert.pem", KeyFile: "/key.pem", ServerName: "server.dc1.consul",
			TrustDomain: "11111111-2222-3333-4444-555555555555.consul", SignaturesPerSecond: 2.5,
		},
		Socket:   SocketConfig{Path: "/run/x/connectd.sock", Group: "mesh", Mode: 0o666},
		Admin:    SocketConfig{Path: "/run/x/a.sock", Group: "adm", Mode: 0o660},
		StoreDir: "/var/lib/x", StoreKeyFile: "/etc/connectd/store.key", MaxStale: 90 * time.Minute, DefaultAction: "deny", LogLevel: "debug", LogJSON: true,
		Services: []ServiceConfig{
			{Name: "web", TokenFile: "/etc/connectd/token.web", Allow: []AllowConfig{
				{User: "www-data", Group: "web"}, {Group: "ops", Grants: []string{"authorize", "status"}},
			}},
			{Name: "*", AllowAnyService: true, Allow: []AllowConfig{{User: "monitor", Grants: []string{"status"}}}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := got.watched(); len(got) != 1 || got[0] != intentions.NewService("web") {
		t.Errorf("got watched %v, want web", got)
	}
	if got := got.tokenFiles(); len(got) != 1 || got[intentions.NewService("web")] != "/etc/connectd/token.web" {
		t.Errorf("got token files %v, want web's", got)
	}
}

func TestConfigDefaults(t *testing.T) {
	got, err := ParseConfig("c.hcl", nil)
	if err != nil || !reflect.DeepEqual(got, DefaultConfig()) {
		t.Errorf("got %+v, %v from an empty file, want the defaults", got, err)
	}
	if got.Socket.Mode != 0o660 || got.Admin.Mode != 0o600 || got.AdminPath() != "/run/connectd/admin.sock" {
		t.Errorf("got modes %04o %04o and admin socket %s", got.Socket.Mode, got.Admin.Mode, got.AdminPath())
	}
	if got, err := ParseConfig("c.hcl", []byte(`socket { path = "/x/s" }`)); err != nil || got.AdminPath() != "/x/admin.sock" {
		t.Errorf("got admin socket %s, %v; want it beside the other", got.AdminPath(), err)
	}
}

func TestConfigLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.hcl")
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v for a file that is not there, want its name", err)
	}
	if err := os.WriteFile(path, []byte("log {\n  level = \"debug\"\n  colour = true\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), path+":3") {
		t.Errorf("got %v, want the place %s:3", err, path)
	}
}

func TestConfigRefuses(t *testing.T) {
	service := func(inside string) string { return "service \"web\" {\n" + inside + "\n}" }
	allow := func(inside string) string { return service("allow {\n" + inside + "\n}") }
	tests := []struct{ name, text, want string }{
		{"unknown-key", "consul {\n  adress = \"x\"\n}", "c.hcl:2"},
		{"unknown-block", "\n\nserver {}", "c.hcl:3"},
		{"unknown-key-at-top", "level = \"debug\"", "c.hcl:1"},
		{"unknown-selector", allow(`exe = "/usr/bin/web"`), "c.hcl:3"},
		{"negative-selector", allow(`not_user = "1"`), "c.hcl:3"},
		{"empty-unit", allow("user = \"1\"\nunit = \"\""), "empty selector"},
		{"part-of-a-unit", allow(`unit = "web*.service"`), "whole name"},
		{"unit-without-kind", allow(`unit = "web"`), "whole name"},
		{"unit-template", allow(`unit = "web@.service"`), "whole name"},
		{"unit-path", allow(`unit = "system.slice/web.service"`), "whole name"},
		{"slice", allow(`unit = "web.slice"`), "whole name"},
		{"cgroup-relative", allow(`cgroup = "system.slice/web.service"`), "absolute"},
		{"cgroup-root", allow(`cgroup = "/"`), "absolute"},
		{"cgroup-dots", allow(`cgroup = "/a/../b"`), "plain form"},
		{"cgroup-end", allow(`cgroup = "/a/"`), "plain form"},
		{"cgroup-star", allow(`cgroup = "/system.slice/*"`), "compared whole"},
		{"cgroup-class", allow(`cgroup = "/system.slice/docker-[0-9a-f].scope"`), "compared whole"},
		{"cgroup-id-alone", allow(`cgroup = "/system.slice/<64hex>"`), "scope of a container"},
		{"cgroup-id-in-service", allow(`cgroup = "/system.slice/web-<64hex>.service"`), "scope of a container"},
		{"container-short", allow(`container = "0123456789ab"`), "64 lower-case"},
		{"container-upper", allow(`container = "` + strings.Repeat("A", 64) + `"`), "64 lower-case"},
		{"door-for-all", "service \"*\" {\nallow_any_service = true\nsocket { path = \"/x/s\" }\n}", "name the service"},
		{"door-without-path", service("socket {}"), "c.hcl:2"},
		{"door-relative", service(`socket { path = "s" }`), "absolute path"},
		{"door-abstract", service(`socket { path = "@s" }`), "absolute path"},
		{"door-dots", service(`socket { path = "/run/../s" }`), "plain form"},
		{"door-mode", service(`socket {` + "\n" + `path = "/x/s"` + "\n" + `mode = "rw"` + "\n}"), `mode "rw"`},
		{"door-is-main", service(`socket { path = "/run/connectd/connectd.sock" }`), "daemon's own"},
		{"door-is-admin", service(`socket { path = "/run/connectd/admin.sock" }`), "daemon's own"},
		{"door-twice", service(`socket { path = "/x/s" }`) + "\nservice \"db\" {\n" + `socket { path = "/x/s" }` + "\n}", "another service's"},
		{"unknown-key-in-service", service(`port = 80`), "c.hcl:2"},
		{"token-in-the-file", "consul {\n token = \"x\"\n}", "c.hcl:2"},
		{"two-blocks-of-a-kind", "log {}\nlog {}", "c.hcl:2"},
		{"key-twice", "log {\n level = \"info\"\n level = \"debug\"\n}", "c.hcl:3"},
		{"syntax", "consul {", "c.hcl:1"},
		{"encryption", `store { encryption = "yes" }`, "encryption"},
		{"key-without-encryption", "store {\n encryption = \"off\"\n key_file = \"/k\"\n}", "key_file"},
		{"function", `store { dir = env("HOME") }`, "c.hcl:1"},
		{"variable", `store { dir = "${home}" }`, "c.hcl:1"},
		{"no-label", "service {}", "c.hcl:1"},
		{"two-labels", `service "a" "b" {}`, "c.hcl:1"},
		{"bool-as-text", "log {\n json = \"perhaps\"\n}", "c.hcl:2"},
		{"number-as-text", "consul {\n signatures_per_second = \"many\"\n}", "c.hcl:2"},
		{"list-as-text", allow("user = \"1\"\ngrants = \"leaf\""), "c.hcl:4"},
		{"text-as-list", allow(`user = ["1"]`), "c.hcl:3"},
		{"mode-word", `socket { mode = "rw" }`, `socket: mode "rw"`},
		{"mode-decimal", `socket { mode = "0688" }`, `socket: mode "0688"`},
		{"mode-special", `socket { mode = "4660" }`, `socket: mode "4660"`},
		{"mode-negative", `socket { mode = "-1" }`, `socket: mode "-1"`},
		{"admin-mode-word", `admin { mode = "x" }`, `admin: mode "x"`},
		{"admin-for-everybody", `admin { mode = "0666" }`, "admin: mode 0666"},
		{"stale-word", `policy { max_stale = "long" }`, `max_stale "long"`},
		{"stale-bare", `policy { max_stale = "72" }`, `max_stale "72"`},
		{"stale-zero", `policy { max_stale = "0s" }`, `max_stale "0s"`},
		{"stale-negative", `policy { max_stale = "-1h" }`, `max_stale "-1h"`},
		{"action", `policy { default_action = "permit" }`, `default_action "permit"`},
		{"action-case", `policy { default_action = "Allow" }`, `default_action "Allow"`},
		{"level", `log { level = "loud" }`, `level "loud"`},
		{"trust-domain", `consul { trust_domain = "spiffe://td" }`, "trust_domain"},
		{"rate", `consul { signatures_per_second = -1 }`, "signatures_per_second"},
		{"no-selector", allow(""), "line 2"},
		{"grants-alone", allow(`grants = ["leaf"]`), "admit everybody"},
		{"empty-user", allow("user = \"\"\ngroup = \"1\""), "empty selector"},
		{"empty-group", allow("user = \"1\"\ngroup = \"\""), "empty selector"},
		{"empty-grants", allow("user = \"1\"\ngrants = []"), "empty list of grants"},
		{"unknown-grant", allow("user = \"1\"\ngrants = [\"leaf\", \"admin\"]"), `unknown grant "admin"`},
		{"internal-grant", allow("user = \"1\"\ngrants = [\"any\"]"), `unknown grant "any"`},
		{"grant-case", allow("user = \"1\"\ngrants = [\"Leaf\"]"), `unknown grant "Leaf"`},
		{"service-twice", "service \"web\" {}\n\nservice \"web\" {}", "line 3"},
		{"wildcard-by-accident", `service "*" {}`, "must say allow_any_service"},
		{"wildcard-denied", `service "*" { allow_any_service = false }`, "must say allow_any_service"},
		{"any-service-for-one", `service "web" { allow_any_service = true }`, `service "*" only`},
		{"wildcard-with-token", "service \"*\" {\n allow_any_service = true\n token_file = \"x\"\n}", "token signs for one"},
		{"part-of-a-wildcard", `service "web*" {}`, "not valid"},
		{"empty-name", `service "" {}`, "not valid"},
		{"name-with-slash", `service "a/b" {}`, "not valid"},
		{"name-with-space", `service "a b" {}`, "not valid"},
		{"dots", `service ".." {}`, "not valid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseConfig("c.hcl", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "c.hcl") {
				t.Errorf("got %v, want an error with %q and the file", err, tt.want)
			}
			if !reflect.DeepEqual(got, Config{}) {
				t.Errorf("got %+v beside the error, want nothing", got)
			}
		})
	}
}

func TestConfigTellsEveryProblem(t *testing.T) {
	_, err := ParseConfig("c.hcl", []byte(`
socket { mode = "x" }
policy { max_stale = "y" }
log { level = "z" }
service "a b" {}
service "web" {
  allow {}
  allow {
    user   = "1"
    grants = ["all"]
  }
}`))
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{`mode "x"`, `max_stale "y"`, `level "z"`, `"a b"`, "line 7", "line 8"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %s:\n%v", want, err)
		}
	}
}

// narrow is a configuration in which every character counts: typing errors in
// it must not let anybody in.
const narrow = `service "web" {
  allow {
    user = "1000"
    grants = ["authorize"]
  }
  allow {
    user = "1001"
    group = "2001"
  }
}
service "*" {
  allow_any_service = true
  allow {
    user = "1002"
    grants = ["status", "discover"]
  }
}
`

// panel lists everything that the test asks admission about.
func panel(t *testing.T, c Config) map[string]bool {
	t.Helper()
	r, err := newRules(c.Services)
	if err != nil {
		return nil
	}
	out := map[string]bool{}
	for _, uid := range []uint32{0, 1000, 1001, 1002, 1003, 65534, 1<<32 - 1} {
		for _, gid := range []uint32{0, 2001, 2002} {
			for _, name := range []string{"web", "db", "we", ""} {
				for _, g := range []socketapi.Grant{socketapi.GrantLeaf, socketapi.GrantAuthorize, socketapi.GrantDiscover, socketapi.GrantStatus, socketapi.GrantAny} {
					s := intentions.Service{}
					if name != "" {
						s = intentions.NewService(name)
					}
					if r.Admit(socketapi.Peer{UID: uid, GID: gid}, g, s) {
						out[fmt.Sprint(uid, "/", gid, " ", g, " ", name)] = true
					}
				}
			}
		}
	}
	return out
}

// mutations are typing errors: a character left out, another one, one too
// many, and values left empty. Ids and names of services stay as they are, for
// other ids are not an error that could be found.
func mutations(text string) []string {
	var out []string
	quoted := false
	for i := 0; i < len(text); i++ {
		if text[i] == '"' {
			quoted = !quoted
			if end := strings.IndexByte(text[i+1:], '"'); quoted && end >= 0 {
				out = append(out, text[:i+1]+text[i+1+end:])
			}
		}
		if quoted && (text[i] >= '0' && text[i] <= '9' || strings.Contains(`"web"*`, text[i-1:i+1])) {
			continue
		}
		out = append(out, text[:i]+text[i+1:], text[:i]+strings.ToUpper(text[i:i+1])+text[i+1:])
		for _, c := range []string{"x", "s", " ", "=", "}", "{", ",", "_", "\n"} {
			out = append(out, text[:i]+c+text[i:], text[:i]+c+text[i+1:])
		}
	}
	for i, line := range strings.Split(text, "\n") {
		lines := strings.Split(text, "\n")
		out = append(out, strings.Join(append(lines[:i:i], append([]string{line}, lines[i:]...)...), "\n"))
	}
	return out
}

func TestConfigTypingErrorsNeverWiden(t *testing.T) {
	base, err := ParseConfig("c.hcl", []byte(narrow))
	if err != nil {
		t.Fatal(err)
	}
	allowed := panel(t, base)
	if len(allowed) == 0 || allowed["1000/0 leaf web"] || !allowed["1000/0 authorize web"] || allowed["1001/0 leaf web"] {
		t.Fatalf("the configuration itself admits %v", allowed)
	}
	accepted, list := 0, mutations(narrow)
	for _, text := range list {
		c, err := ParseConfig("c.hcl", []byte(text))
		if err != nil {
			continue
		}
		accepted++
		for who := range panel(t, c) {
			if !allowed[who] {
				t.Errorf("%s is admitted by\n%s", who, text)
				break
			}
		}
	}
	if len(list) < 1000 || accepted < 100 {
		t.Errorf("got %d mutations of which %d are accepted, want more to judge", len(list), accepted)
	}
}
