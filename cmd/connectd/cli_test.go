package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
)

func TestErrorsAreOneLineThatSaysWhatToDo(t *testing.T) {
	refusing, _ := startAnswering(t, nil)
	absent := socketPath(t)
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no_socket", []string{"status", "--socket", absent}, "connectd: there is no socket " + absent + "; is the daemon running?"},
		{"no_socket_json", []string{"leaf", "web", "--json", "--socket", absent}, "is the daemon running?"},
		{"forbidden", []string{"leaf", "web", "--socket", refusing}, "connectd: this process is not admitted here refusal 1"},
		{"long_socket", []string{"status", "--socket", "/" + strings.Repeat("x", 200)}, "shorter"},
		{"unknown_command", []string{"stauts"}, `unknown command "stauts"; did you mean status?`},
		{"unknown_without_idea", []string{"frobnicate"}, "connectd --help lists the commands"},
		{"unknown_flag", []string{"status", "--frob"}, "see connectd status --help"},
		{"superfluous", []string{"status", "web"}, `status takes no argument such as "web"`},
		{"no_service", []string{"leaf"}, "for example: connectd leaf web"},
		{"two_services", []string{"policy", "a", "b"}, "takes the name of one service"},
		{"bad_service", []string{"policy", "a b", "--socket", refusing}, "is not a service"},
		{"no_shell", []string{"completion"}, "name one shell"},
		{"unknown_shell", []string{"completion", "tcsh"}, "unknown shell"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := runCommand(t, tt.args...)
			if got.code != 2 || got.out != "" || !strings.Contains(got.err, tt.want) {
				t.Errorf("got %+v, want %q", got, tt.want)
			}
			if !strings.HasPrefix(got.err, "connectd: ") || strings.Count(got.err, "\n") != 1 {
				t.Errorf("got %q, want one line", got.err)
			}
		})
	}
}

func TestAnInterruptIsNamed(t *testing.T) {
	socket, _ := startAnswering(t, documents())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, err strings.Builder
	if code := execute(ctx, []string{"status", "--socket", socket}, &out, &err); code != 2 || err.String() != "connectd: interrupted\n" {
		t.Errorf("got %d and %q", code, err.String())
	}
}

func TestHelpTeachesWithAnExample(t *testing.T) {
	for _, c := range newRoot().Commands() {
		if c.Name() == "help" {
			continue
		}
		t.Run(c.Name(), func(t *testing.T) {
			if c.Short == "" || c.Example == "" || strings.HasSuffix(c.Short, ".") {
				t.Errorf("got %q and example %q", c.Short, c.Example)
			}
			if got := runCommand(t, c.Name(), "--help"); got.code != 0 || !strings.Contains(got.out, "Examples:") {
				t.Errorf("got %+v", got)
			}
		})
	}
	if got := runCommand(t); got.code != 0 || !strings.Contains(got.out, "connectd status") {
		t.Errorf("got %+v", got)
	}
}

func TestSocketFromTheEnvironment(t *testing.T) {
	socket, _ := startAnswering(t, documents())
	t.Setenv(connectd.EnvSocket, socket)
	if got := runCommand(t, "services"); got.code != 0 || got.err != "" {
		t.Errorf("got %+v", got)
	}
	if got := runCommand(t, "services", "--socket", socketPath(t)); got.code != 2 {
		t.Errorf("got %+v, want the flag to win", got)
	}
}

// TestWhichSocket covers the search where nobody names a socket.
func TestWhichSocket(t *testing.T) {
	const absent, dead, living = "absent", "dead", "living"
	for _, tt := range []struct {
		name, standard, development string
		mode                        os.FileMode
		want                        bool
	}{
		{"neither", absent, absent, 0o700, false},
		{"standard_alone", living, absent, 0o700, false},
		{"both_live", living, living, 0o700, false},
		{"development_alone", absent, living, 0o700, true},
		{"standard_dead", dead, living, 0o700, true},
		{"both_dead", dead, dead, 0o700, false},
		{"others_can_enter", absent, living, 0o755, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := places{place(t, tt.standard), place(t, tt.development)}
			if err := os.Chmod(filepath.Dir(p.development), tt.mode); err != nil {
				t.Fatal(err)
			}
			want := p.standard
			if tt.want {
				want = p.development
			}
			if got, development := p.choose(t.Context()); got != want || development != tt.want {
				t.Errorf("got %s and %t, want %s and %t", got, development, want, tt.want)
			}
		})
	}
}

// place returns the path of a socket in one of three states.
func place(t *testing.T, state string) string {
	t.Helper()
	path := socketPath(t)
	if state == "absent" {
		return path
	}
	l := listen(t, path)
	t.Cleanup(func() { _ = l.Close() })
	if state == "dead" {
		l.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
		_ = l.Close()
	}
	return path
}

func TestTheDevelopmentDaemonIsNamed(t *testing.T) {
	t.Setenv(connectd.EnvSocket, "")
	socket, _ := startAnswering(t, documents())
	var errors strings.Builder
	cmd := &cobra.Command{}
	cmd.SetErr(&errors)
	cmd.SetContext(t.Context())
	g := &globals{places: places{standard: socketPath(t), development: socket}}
	c, err := g.client(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if want := "using the development daemon at " + socket + "\n"; c.Socket() != socket || errors.String() != want {
		t.Errorf("got %s and %q, want %q", c.Socket(), errors.String(), want)
	}
}

func TestProgressIsShownAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		showProgress(&out, "the first leaf of web", func() { <-time.After(2500 * time.Millisecond) })
		want := eraseLine + "waiting for the first leaf of web ... 1s" +
			eraseLine + "waiting for the first leaf of web ... 2s" + eraseLine
		if got := out.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		out.Reset()
		showProgress(&out, "x", func() {})
		waiting(&out, "x", func() { <-time.After(5 * time.Second) })
		if got := out.String(); got != "" {
			t.Errorf("got %q, want nothing", got)
		}
	})
}

func TestVersion(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"},
	}}
	if got, want := newBuild(info, true).String(), "connectd "+release+", commit abc with changes, go1.26.8"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	info.Main.Version = "v1.2.3"
	if got := newBuild(info, true).Version; got != "v1.2.3" {
		t.Errorf("got %q", got)
	}
	if got := newBuild(nil, false).String(); got != "connectd "+release {
		t.Errorf("got %q", got)
	}
	got := runCommand(t, "version", "--json")
	var b build
	if err := json.Unmarshal([]byte(got.out), &b); err != nil || got.code != 0 || b.Version == "" || b.Go == "" {
		t.Errorf("got %+v and %v", got, err)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := runCommand(t, "completion", shell); got.code != 0 || !strings.Contains(got.out, "connectd") {
			t.Errorf("%s: got %d and %q", shell, got.code, got.err)
		}
	}
	socket, _ := startAnswering(t, map[string]string{"/v1/services": statusDocument})
	got := runCommand(t, "__complete", "leaf", "--socket", socket, "")
	if got.code != 0 || !strings.HasPrefix(got.out, "web\ndb\n") {
		t.Errorf("got %+v", got)
	}
}
