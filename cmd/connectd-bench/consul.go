package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// agent is a Consul server agent of our own, on a Unix socket.
type agent struct {
	cmd    *exec.Cmd
	log    *bytes.Buffer
	socket string
}

// intention is what the development daemon's samples say too.
const intention = `{"Kind":"service-intentions","Name":"db","Sources":[{"Name":"web","Action":"allow"},{"Name":"*","Action":"deny"}]}`

const (
	leaderWithin = time.Minute
	leaderEvery  = 200 * time.Millisecond
)

// consulVersion asks the binary who it is.
func consulVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return "", fmt.Errorf("%s version: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "Consul "), nil
}

// startConsul starts an agent in dir and waits until it knows the intention.
func startConsul(ctx context.Context, path, dir string) (*agent, error) {
	a := &agent{log: &bytes.Buffer{}, socket: filepath.Join(dir, "consul.sock")}
	config, err := a.config(dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "consul.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	a.cmd = exec.CommandContext(ctx, path, "agent", "-config-file", file)
	a.cmd.Stdout, a.cmd.Stderr, a.cmd.WaitDelay = a.log, a.log, stopWithin
	// The agent's own environment variables must not point it elsewhere.
	a.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	if err := a.writeIntention(ctx); err != nil {
		a.stop()
		return nil, fmt.Errorf("start Consul: %w\n%s", err, a.log)
	}
	return a, nil
}

// config opens the ports that a server needs and no more, and logs errors
// only: a log line for each request would be measured too.
func (a *agent) config(dir string) ([]byte, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": "bench", "data_dir": filepath.Join(dir, "consul"),
		"bind_addr": "127.0.0.1", "log_level": "error", "disable_update_check": true,
		"addresses":   map[string]any{"http": "unix://" + a.socket},
		"connect":     map[string]any{"enabled": true},
		"performance": map[string]any{"raft_multiplier": 1},
		"ports": map[string]any{
			"server": ports[0], "serf_lan": ports[1], "serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1, "https": -1,
		},
	})
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// writeIntention tries until the agent has a leader.
func (a *agent) writeIntention(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaderWithin)
	defer cancel()
	tick := time.NewTicker(leaderEvery)
	defer tick.Stop()
	for {
		err := a.put(ctx, "/v1/config", intention)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (a *agent) put(ctx context.Context, path, body string) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, a.socket) },
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://consul"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s (%v)", resp.Status, text, err)
	}
	return nil
}

// stop kills the agent: its data are thrown away.
func (a *agent) stop() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}
