package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

var someID = strings.Repeat("0123456789abcdef", 4)

func TestAdmissionBySelectors(t *testing.T) {
	web := socketapi.Peer{PID: 7, UID: 1000, GID: 1000, Groups: []uint32{1000, 2000}, Pinned: true,
		Cgroup: "/system.slice/web.service", Unit: "web.service"}
	pod := socketapi.Peer{PID: 7, UID: 1000, GID: 1000, Pinned: true,
		Cgroup: "/system.slice/docker-" + someID + ".scope", Unit: "docker-" + someID + ".scope", Container: someID}
	loose := web
	loose.Pinned = false
	tests := []struct {
		name  string
		allow AllowConfig
		peer  socketapi.Peer
		want  bool
	}{
		{"supplementary-group", AllowConfig{Group: "2000"}, web, true},
		{"another-group", AllowConfig{Group: "2001"}, web, false},
		{"group-of-an-unmapped-user", AllowConfig{Group: "2000"}, socketapi.Peer{UID: overflowID, GID: 2000}, false},
		{"unit", AllowConfig{Unit: "web.service"}, web, true},
		{"unit-not-pinned", AllowConfig{Unit: "web.service"}, loose, false},
		{"another-unit", AllowConfig{Unit: "web2.service"}, web, false},
		{"unit-case", AllowConfig{Unit: "Web.service"}, web, false},
		{"unit-and-user", AllowConfig{Unit: "web.service", User: "1000"}, web, true},
		{"unit-and-another-user", AllowConfig{Unit: "web.service", User: "1001"}, web, false},
		{"all-five", AllowConfig{User: "1000", Group: "2000", Unit: "web.service", Cgroup: "/system.slice/web.service", Container: someID}, web, false},
		{"cgroup", AllowConfig{Cgroup: "/system.slice/web.service"}, web, true},
		{"cgroup-not-pinned", AllowConfig{Cgroup: "/system.slice/web.service"}, loose, false},
		{"cgroup-above", AllowConfig{Cgroup: "/system.slice"}, web, false},
		{"cgroup-below", AllowConfig{Cgroup: "/system.slice/web.service/x"}, web, false},
		{"cgroup-end", AllowConfig{Cgroup: "/web.service"}, web, false},
		{"cgroup-open", AllowConfig{Cgroup: "/system.slice/docker-<64hex>.scope"}, pod, true},
		{"cgroup-open-above", AllowConfig{Cgroup: "/docker-<64hex>.scope"}, pod, false},
		{"cgroup-open-other", AllowConfig{Cgroup: "/system.slice/crio-<64hex>.scope"}, pod, false},
		{"cgroup-open-unit", AllowConfig{Cgroup: "/system.slice/docker-<64hex>.scope"}, web, false},
		{"container", AllowConfig{Container: someID}, pod, true},
		{"another-container", AllowConfig{Container: strings.Repeat("0", 64)}, pod, false},
		{"unknown-user", AllowConfig{User: "no-such-user-here"}, web, false},
		{"unknown-user-and-unit", AllowConfig{User: "no-such-user-here", Unit: "web.service"}, web, false},
		{"unknown-user-is-not-root", AllowConfig{User: "no-such-user-here"}, socketapi.Peer{PID: 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := newRules([]ServiceConfig{{Name: "web", Allow: []AllowConfig{tt.allow}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Admit(tt.peer, socketapi.GrantLeaf, intentions.NewService("web")); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAdmissionComplains(t *testing.T) {
	services := []ServiceConfig{{Name: "web", Allow: []AllowConfig{
		{User: "0"}, {User: "no-such-user-here", Group: "no-such-group-here"}, {Unit: "web.service"},
	}}}
	for name, m := range map[string]ruleMaker{"pins": {names: systemNames(), pins: true}, "no_pins": {names: systemNames()}} {
		t.Run(name, func(t *testing.T) {
			r, err := m.rules(services)
			if err != nil {
				t.Fatal(err)
			}
			var text string
			for _, c := range r.complaints {
				text += c.Kind + " " + c.Message + "\n"
			}
			want := []string{`unknown_name allow block 2 of service "web"`, `user "no-such-user-here" does not exist`, `group "no-such-group-here"`}
			if !m.pins {
				want = append(want, "unchecked_rule allow block 3", "socket block of its own")
			}
			for _, w := range want {
				if !strings.Contains(text, w) {
					t.Errorf("got %q, want %q in it", text, w)
				}
			}
			if got := strings.Count(text, "\n"); got != map[bool]int{true: 2, false: 3}[m.pins] {
				t.Errorf("got %d complaints:\n%s", got, text)
			}
		})
	}
}

// TestAdmissionLooksNamesUpAgain has a user who appears after the daemon's
// start; getent stands for the host's name services.
func TestAdmissionLooksNamesUpAgain(t *testing.T) {
	dir := t.TempDir()
	database := filepath.Join(dir, "answer")
	getent := filepath.Join(dir, "getent")
	if err := os.WriteFile(getent, []byte("#!/bin/sh\ncat "+database+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	m := ruleMaker{names: names{getent: getent}, pins: true}
	services := []ServiceConfig{{Name: "web", Allow: []AllowConfig{{User: "late-comer"}}}}
	r, err := m.rules(services)
	if err != nil {
		t.Fatal(err)
	}
	a := newAdmission(r, services, hclog.NewNullLogger())
	admitted := func(uid uint32) bool {
		return a.Admit(socketapi.Peer{UID: uid}, socketapi.GrantLeaf, intentions.NewService("web"))
	}
	if admitted(4242) || len(a.Complaints()) != 1 {
		t.Fatalf("an unknown user: got admitted %v and complaints %v", admitted(4242), a.Complaints())
	}
	changed := a.Changed()
	for _, answer := range []string{"someone-else:x:4242:\n", "late-comer:x\n", ""} {
		writeFile(t, database, answer)
		if a.lookUp(m); admitted(4242) {
			t.Errorf("the answer %q admits", answer)
		}
	}
	writeFile(t, database, "late-comer:x:4242:4242::/:/bin/false\n")
	if a.lookUp(m); !admitted(4242) || len(a.Complaints()) != 0 {
		t.Errorf("got admitted %v and complaints %v once the user exists", admitted(4242), a.Complaints())
	}
	select {
	case <-changed:
	default:
		t.Error("open requests were not told")
	}
	writeFile(t, database, "late-comer:x:65534:1::/:/bin/false\n")
	if a.lookUp(m); !admitted(4242) {
		t.Error("an answer that can never be admitted changed the rules")
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAdmissionLooksUpEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		services := []ServiceConfig{{Name: "web", Allow: []AllowConfig{{User: "1"}}}}
		a := newAdmission(&rules{}, services, hclog.NewNullLogger())
		ended := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ended <- a.Run(ctx, ruleMaker{}) }()
		time.Sleep(lookUpEvery + time.Second)
		synctest.Wait()
		if !a.Admit(socketapi.Peer{UID: 1}, socketapi.GrantLeaf, intentions.NewService("web")) {
			t.Error("the names were not looked up after a minute")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestConfigDirectory(t *testing.T) {
	write := func(t *testing.T, files map[string]string) string {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, confDir), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return filepath.Join(dir, "connectd.hcl")
	}
	t.Run("merged", func(t *testing.T) {
		c, err := LoadConfig(write(t, map[string]string{
			"connectd.hcl": `service "a" {}`, "conf.d/20.hcl": `service "c" {}`, "conf.d/10.hcl": "service \"b\" {}\nlog { level = \"debug\" }",
			"conf.d/.hidden.hcl": "broken {", "conf.d/readme.txt": "broken {",
		}))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Services) != 3 || c.Services[1].Name != "b" || c.Services[2].Name != "c" || c.LogLevel != "debug" {
			t.Errorf("got %+v", c)
		}
	})
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"service_twice": {map[string]string{"connectd.hcl": `service "a" {}`, "conf.d/1.hcl": `service "a" {}`}, "connectd.hcl has a block for this service"},
		"block_twice":   {map[string]string{"connectd.hcl": `log {}`, "conf.d/1.hcl": `log {}`}, "has a log block too"},
		"broken":        {map[string]string{"connectd.hcl": ``, "conf.d/1.hcl": `log {`}, "conf.d/1.hcl:1"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := LoadConfig(write(t, tt.files)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	for _, writable := range []string{"connectd.hcl", "conf.d/1.hcl", "conf.d"} {
		for _, mode := range []os.FileMode{0o020, 0o002} {
			path := write(t, map[string]string{"connectd.hcl": ``, "conf.d/1.hcl": ``})
			if err := os.Chmod(filepath.Join(filepath.Dir(path), writable), 0o744|mode); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "written by others") {
				t.Errorf("%s with mode %04o: got %v", writable, 0o744|mode, err)
			}
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	path := write(t, map[string]string{"connectd.hcl": ``})
	if err := os.Chown(path, 1234, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("a foreign file: got %v", err)
	}
}

func TestAdmissionNamesRefuseWhatIsNone(t *testing.T) {
	for _, name := range []string{"-n", "0x10", " 1", "1 ", "a:b", "a b", "4294967296", "-1", "a\nb", ""} {
		if _, err := systemNames().user(name); err == nil || errors.Is(err, errUnknownName) {
			t.Errorf("%q: got %v, want a refusal", name, err)
		}
	}
}
