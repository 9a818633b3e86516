package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/clients/go/connectd"
)

// step is a command of a document, and what it prints there.
type step struct{ command, prints string }

// steps reads the console blocks of a document.
func steps(t *testing.T, file string) []step {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []step
	for _, part := range strings.Split(string(raw), "```console\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		for line := range strings.Lines(block) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				list = append(list, step{command: strings.TrimSpace(command)})
			} else {
				list[len(list)-1].prints += line
			}
		}
	}
	return list
}

// age is the one thing in the output that depends on when it is printed.
var age = regexp.MustCompile(`confirmed \d+s ago`)

// TestDocsExplaining follows docs/explaining.md: files that it shows are
// written, and each of its commands must print what stands there.
func TestDocsExplaining(t *testing.T) {
	list := steps(t, "../../docs/explaining.md")
	t.Chdir(t.TempDir())
	for _, s := range list {
		if path, ok := strings.CutPrefix(s.command, "cat "); ok {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(s.prints), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	socket := socketPath(t)
	startAuthority(t, socket, devca.Config{Dir: "mesh"})
	t.Setenv(connectd.EnvSocket, socket)
	// The services of this host are there once they have their leaves.
	for _, service := range []string{"web", "jobs"} {
		if got := runCommand(t, "leaf", service); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
	}
	code, commands := 0, 0
	for _, s := range list {
		switch words := strings.Fields(s.command); words[0] {
		case "cat":
		case "echo":
			if want := strings.TrimSpace(s.prints); strconv.Itoa(code) != want {
				t.Errorf("got exit code %d, the document says %s", code, want)
			}
		default:
			got := runCommand(t, words[1:]...)
			code = got.code
			if diff := cmp.Diff(s.prints, age.ReplaceAllString(got.out+got.err, "confirmed 0s ago")); diff != "" {
				t.Errorf("%s\n-document +printed:\n%s", s.command, diff)
			}
			commands++
		}
	}
	if commands < 8 {
		t.Errorf("followed %d commands, want at least 8", commands)
	}
}
