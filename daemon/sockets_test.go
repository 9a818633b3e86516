package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/connectd/connectd/cache/consul/consultest"
)

// envContender makes the test binary a daemon among several.
const envContender = "CONNECTD_TEST_CONTENDER"

// TestAdmissionContender is the child of TestAdmissionOneServes: it serves
// until its input ends, or prints why it does not.
func TestAdmissionContender(t *testing.T) {
	dir := os.Getenv(envContender)
	if dir == "" {
		t.Skip("only as a child")
	}
	c := DefaultConfig()
	c.Consul.Address = "http://127.0.0.1:1"
	c.Socket.Path, c.StoreDir = filepath.Join(dir, "s"), filepath.Join(dir, "store")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	err := Run(ctx, c, Options{Ready: func() { fmt.Println("SERVES") }})
	switch {
	case errors.Is(err, ErrServed):
		fmt.Println("LOSES")
	case err != nil && !errors.Is(err, context.Canceled):
		fmt.Println("FAILS", err)
	}
}

// TestAdmissionOneServes starts daemons at once, on an empty directory or on
// what a killed one left: exactly one serves.
func TestAdmissionOneServes(t *testing.T) {
	rounds := 3
	if os.Getenv("CONNECTD_TEST_FULL") != "" {
		rounds = 100
	}
	dir := t.TempDir()
	for round := range rounds {
		served := contend(t, dir, 16)
		if served != 1 {
			t.Fatalf("round %d: %d of 16 daemons serve", round, served)
		}
	}
	t.Logf("%d rounds of 16 daemons: one served in each", rounds)
}

type contender struct {
	cmd  *exec.Cmd
	said chan string
}

// contend starts daemons and returns how many served; the winner is killed.
func contend(t *testing.T, dir string, daemons int) (served int) {
	t.Helper()
	var all []contender
	for range daemons {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAdmissionContender$")
		cmd.Env = append(os.Environ(), envContender+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c := contender{cmd, make(chan string, 1)}
		go func() {
			line := make([]byte, 256)
			n, _ := out.Read(line)
			c.said <- string(line[:n])
		}()
		all = append(all, c)
	}
	for _, c := range all {
		switch said := <-c.said; {
		case strings.HasPrefix(said, "SERVES"):
			served++
		case !strings.HasPrefix(said, "LOSES"):
			t.Errorf("a daemon said %q", said)
		}
	}
	for _, c := range all {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
	return served
}

// TestAdmissionSocketComesBack removes the socket's node under a daemon.
func TestAdmissionSocketComesBack(t *testing.T) {
	d := govern(t, allowOwn("web", ""))
	if err := os.Remove(d.config.Socket.Path); err != nil {
		t.Fatal(err)
	}
	d.main.CloseIdleConnections()
	consultest.Eventually(t, 3*lookEvery, "the socket", func() error {
		_, err := os.Lstat(d.config.Socket.Path)
		return err
	})
	if status, body := ask(t, d.main, http.MethodGet, "/v1/services/web/leaf"); status != 200 {
		t.Errorf("got %d %s on the socket that was put back", status, body)
	}
	if info, err := os.Lstat(d.config.Socket.Path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("got %v, %v; want its mode", info, err)
	}
	if err := os.Remove(d.config.Socket.Path); err != nil {
		t.Fatal(err)
	}
	writeFile(t, d.config.Socket.Path, "another's")
	<-time.After(lookEvery + time.Second)
	if raw, err := os.ReadFile(d.config.Socket.Path); err != nil || string(raw) != "another's" {
		t.Errorf("what another put there: got %q, %v", raw, err)
	}
}
