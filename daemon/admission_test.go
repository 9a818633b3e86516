package daemon

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

func TestAdmissionRules(t *testing.T) {
	web, db, none := intentions.NewService("web"), intentions.NewService("db"), intentions.Service{}
	r, err := newRules([]ServiceConfig{
		{Name: "web", Allow: []AllowConfig{
			{User: "1000"}, {User: "1001", Grants: []string{"authorize", "discover"}},
			{Group: "2000"}, {User: "1002", Group: "2002"},
		}},
		{Name: "db"},
		{Name: "*", AllowAnyService: true, Allow: []AllowConfig{{User: "1009", Grants: []string{"status"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	peer := func(uid, gid uint32) socketapi.Peer { return socketapi.Peer{PID: 1, UID: uid, GID: gid} }
	tests := []struct {
		name    string
		peer    socketapi.Peer
		grant   socketapi.Grant
		service intentions.Service
		want    bool
	}{
		{"user-has-all", peer(1000, 1), socketapi.GrantLeaf, web, true},
		{"user-of-another-service", peer(1000, 1), socketapi.GrantLeaf, db, false},
		{"granted", peer(1001, 1), socketapi.GrantAuthorize, web, true},
		{"granted-too", peer(1001, 1), socketapi.GrantDiscover, web, true},
		{"not-granted", peer(1001, 1), socketapi.GrantLeaf, web, false},
		{"any-of-the-service", peer(1001, 1), socketapi.GrantAny, web, true},
		{"any-of-another-service", peer(1001, 1), socketapi.GrantAny, db, false},
		{"group", peer(5, 2000), socketapi.GrantLeaf, web, true},
		{"both-selectors", peer(1002, 2002), socketapi.GrantLeaf, web, true},
		{"user-of-two", peer(1002, 1), socketapi.GrantLeaf, web, false},
		{"group-of-two", peer(5, 2002), socketapi.GrantLeaf, web, false},
		{"stranger", peer(5, 5), socketapi.GrantAny, web, false},
		{"root-is-nobody-special", peer(0, 0), socketapi.GrantAny, web, false},
		{"any-service", peer(1009, 1), socketapi.GrantStatus, intentions.NewService("other"), true},
		{"any-service-not-granted", peer(1009, 1), socketapi.GrantLeaf, web, false},
		{"service-without-allow", peer(1000, 2000), socketapi.GrantAny, db, false},
		{"some-service", peer(1000, 1), socketapi.GrantAny, none, true},
		{"some-service-granted", peer(1001, 1), socketapi.GrantDiscover, none, true},
		{"some-service-not-granted", peer(1001, 1), socketapi.GrantStatus, none, false},
		{"some-service-stranger", peer(5, 5), socketapi.GrantAny, none, false},
		{"another-namespace", peer(1000, 1), socketapi.GrantLeaf, intentions.Service{Partition: "default", Namespace: "x", Name: "web"}, false},
		{"another-partition", peer(1000, 1), socketapi.GrantLeaf, intentions.Service{Partition: "x", Namespace: "default", Name: "web"}, false},
		{"another-case", peer(1000, 1), socketapi.GrantLeaf, intentions.NewService("Web"), false},
		{"wildcard-name", peer(1000, 1), socketapi.GrantLeaf, intentions.NewService("*"), false},
		{"unmapped-user", peer(overflowID, overflowID), socketapi.GrantAny, none, false},
		{"unknown-user", peer(unknownID, unknownID), socketapi.GrantAny, none, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.Admit(tt.peer, tt.grant, tt.service); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAdmissionRulesRefuse(t *testing.T) {
	tests := []struct {
		name  string
		allow AllowConfig
		want  string
	}{
		{"no-selector", AllowConfig{}, "admit everybody"},
		{"overflow-user", AllowConfig{User: "65534"}, `user "65534"`},
		{"overflow-group", AllowConfig{Group: "65534"}, `group "65534"`},
		{"unknown-id", AllowConfig{User: "4294967295"}, `user "4294967295"`},
		{"too-large", AllowConfig{User: "4294967296"}, `user "4294967296"`},
		{"negative", AllowConfig{User: "-1"}, `user "-1"`},
		{"hex", AllowConfig{User: "0x10"}, `user "0x10"`},
		{"space", AllowConfig{User: " 1"}, `user " 1"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newRules([]ServiceConfig{{Name: "web", Allow: []AllowConfig{tt.allow}}})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `service "web"`) {
				t.Errorf("got %v, want %q and the service", err, tt.want)
			}
		})
	}
}

func TestAdmissionByName(t *testing.T) {
	id, err := userID("root")
	if err != nil || id != 0 {
		t.Errorf("got %d, %v for root, want 0", id, err)
	}
	if id, err = groupID("0"); err != nil || id != 0 {
		t.Errorf("got %d, %v for group 0, want 0", id, err)
	}
}

func TestAdmissionWithoutServices(t *testing.T) {
	some := intentions.NewService("web")
	tests := []struct {
		name     string
		uid      uint32
		services []ServiceConfig
		want     bool
	}{
		{"own-user", 1000, nil, true},
		{"root-admits-nobody", 0, nil, false},
		{"unmapped-admits-nobody", overflowID, nil, false},
		{"any-block-ends-it", 1000, []ServiceConfig{{Name: "web"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := admissionOf(Config{Services: tt.services}, ruleMaker{names: systemNames()}, tt.uid)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Admit(socketapi.Peer{UID: tt.uid}, socketapi.GrantLeaf, some); got != tt.want {
				t.Errorf("got own user admitted %v, want %v", got, tt.want)
			}
			if a.Admit(socketapi.Peer{UID: tt.uid + 1}, socketapi.GrantLeaf, some) {
				t.Error("another user is admitted")
			}
		})
	}
	if got := ownUser(7); got.empty() || !got.Admit(socketapi.Peer{UID: 7, GID: 9}, socketapi.GrantStatus, intentions.Service{}) {
		t.Error("the own user is not admitted for everything")
	}
	if !(&rules{}).empty() || (&rules{}).Admit(socketapi.Peer{}, socketapi.GrantAny, some) {
		t.Error("no rules admit somebody")
	}
}

func TestAdmissionRefusesOwnSocket(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(path("real"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"dir": "real", "to-main": path("real/main.sock"), "relative": "real/main.sock", "twice": "to-main",
		"to-live": "real/live.sock", "loop": "loop", "elsewhere": "/nowhere/agent.sock",
	} {
		if err := os.Symlink(target, path(link)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", path("real/live.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Link(path("real/live.sock"), path("hard")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, own, upstream string
		refused             bool
	}{
		{"no-socket", "real/main.sock", "", false},
		{"another", "real/main.sock", "real/agent.sock", false},
		{"same", "real/main.sock", "real/main.sock", true},
		{"admin", "real/main.sock", "real/admin.sock", true},
		{"dots", "real/main.sock", "real/../real/./main.sock", true},
		{"linked-directory", "real/main.sock", "dir/main.sock", true},
		{"own-directory-linked", "dir/main.sock", "real/main.sock", true},
		{"link-to-what-is-not-there-yet", "real/main.sock", "to-main", true},
		{"relative-link", "real/main.sock", "relative", true},
		{"link-to-a-link", "real/main.sock", "twice", true},
		{"link-to-a-live-one", "real/live.sock", "to-live", true},
		{"hard-link-to-a-live-one", "real/live.sock", "hard", true},
		{"loop", "real/main.sock", "loop", false},
		{"link-elsewhere", "real/main.sock", "elsewhere", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			upstream := ""
			if tt.upstream != "" {
				upstream = dir + "/" + tt.upstream
			}
			err := refuseOwnSocket(Config{Socket: SocketConfig{Path: path(tt.own)}}, upstream)
			if got := err != nil; got != tt.refused {
				t.Errorf("got %v, want refused %v", err, tt.refused)
			}
			if err != nil && !strings.Contains(err.Error(), "CONSUL_HTTP_ADDR") {
				t.Errorf("got %v, want what to look at", err)
			}
		})
	}
}

func TestCheckConfig(t *testing.T) {
	dir := t.TempDir()
	good := func() Config {
		c := DefaultConfig()
		c.Consul.Address = "http://127.0.0.1:8500"
		c.Socket.Path = filepath.Join(dir, "s")
		c.Services = []ServiceConfig{{Name: "web", Allow: []AllowConfig{{User: "1"}}}}
		return c
	}
	tests := []struct {
		name   string
		change func(c *Config)
		want   string
	}{
		{"good", func(*Config) {}, ""},
		{"address", func(c *Config) { c.Consul.Address = "ftp://x" }, "ftp"},
		{"own-socket", func(c *Config) { c.Consul.Address = "unix://" + c.Socket.Path }, "own socket"},
		{"token-file", func(c *Config) { c.Consul.TokenFile = filepath.Join(dir, "none") }, "none"},
		{"service-token-file", func(c *Config) { c.Services[0].TokenFile = filepath.Join(dir, "none") }, "web"},
		{"user", func(c *Config) { c.Services[0].Allow[0].User = "no-such-user-here" }, "no-such-user-here"},
		{"group", func(c *Config) { c.Socket.Group = "no-such-group-here" }, `socket: group "no-such-group-here"`},
		{"admin-group", func(c *Config) { c.Admin.Group = "no-such-group-here" }, `admin: group "no-such-group-here"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good()
			tt.change(&c)
			err := Check(c)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if list, _ := os.ReadDir(dir); len(list) > 0 {
				t.Errorf("looking at a configuration left %v", list)
			}
			if tt.name != "user" && tt.want != "" {
				if err := Run(t.Context(), withStore(c, dir), Options{}); err == nil {
					t.Error("the daemon starts on it")
				}
				_ = os.RemoveAll(filepath.Join(dir, "store"))
				_ = os.Remove(filepath.Join(dir, "s.lock"))
			}
		})
	}
}

func withStore(c Config, dir string) Config {
	c.StoreDir = filepath.Join(dir, "store")
	return c
}

func TestAdmissionToSocketsByGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to other groups")
	}
	dir := t.TempDir()
	c := DefaultConfig()
	c.Socket = SocketConfig{Path: filepath.Join(dir, "s"), Group: "2", Mode: 0o660}
	c.Admin = SocketConfig{Group: "3", Mode: 0o660}
	both, err := listen(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer both.main.Close()
	defer both.admin.Close()
	for path, want := range map[string]uint32{c.Socket.Path: 2, c.AdminPath(): 3} {
		if got := gidOf(t, path); got != want {
			t.Errorf("%s: got group %d, want %d", path, got, want)
		}
	}
}
