package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// The question that all are asked, which the samples of the development daemon
// answer with allow.
const (
	sourceURI     = "spiffe://connectd-development.consul/ns/default/dc/dc1/svc/web"
	ownQuestion   = `{"destination":"db","source":"` + sourceURI + `"}`
	agentQuestion = `{"Target":"db","ClientCertURI":"` + sourceURI + `","ClientCertSerial":"01"}`

	ownPath   = "/v1/authorize"
	agentPath = "/v1/agent/connect/authorize"
)

// The names of what is compared.
const (
	nameOwn    = "connectd " + ownPath
	nameCompat = "connectd " + agentPath
	nameConsul = "Consul " + agentPath
	nameBare   = "bare net/http handler"
	nameEcho   = "bare echo"
)

const consulVariable = "CONNECTD_TEST_CONSUL"

func newAuthorize() *cobra.Command {
	p := plan{}
	var consul string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "authorize",
		Short: "Round trips of one authorize question over Unix sockets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.check(); err != nil {
				return err
			}
			r, err := measureAuthorize(cmd.Context(), p, consul, newProgress(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), r)
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&p.Rounds, "rounds", 20, "rounds in which all take turns")
	f.IntVar(&p.Requests, "requests", 2000, "round trips of each caller in a round")
	f.IntVar(&p.Callers, "callers", 1, "callers at once, each with its connection")
	f.StringVar(&consul, "consul", os.Getenv(consulVariable), "a Consul binary; without one Consul is left out")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// bench has what runs while a comparison is measured.
type bench struct {
	dir   string
	plan  plan
	peers []*peer
	// undo ends what was started, in reverse.
	undo []func() error
}

func measureAuthorize(ctx context.Context, p plan, consul string, show progress) (r *authorizeReport, err error) {
	// The path of a socket is short, so the directory of the user's choice may
	// not serve; the system's does.
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, plan: p}
	b.undo = append(b.undo, func() error { return os.RemoveAll(dir) })
	defer func() { err = errors.Join(err, b.close()) }()
	version := ""
	if consul != "" {
		show.say("starting Consul")
		if version, err = consulVersion(ctx, consul); err != nil {
			return nil, err
		}
	}
	if err := b.start(ctx, consul); err != nil {
		return nil, err
	}
	if err := p.run(ctx, b.peers, show); err != nil {
		return nil, err
	}
	return newAuthorizeReport(thisMachine(version), p, b.peers), nil
}

func (b *bench) start(ctx context.Context, consul string) error {
	socket := filepath.Join(b.dir, "connectd.sock")
	if err := b.child(ctx, serveDaemon, "--socket", socket); err != nil {
		return err
	}
	answer, err := b.addHTTP(ctx, nameOwn, socket, ownPath, ownQuestion, `"allowed":true`)
	if err != nil {
		return err
	}
	if _, err := b.addHTTP(ctx, nameCompat, socket, agentPath, agentQuestion, `"Authorized":true`); err != nil {
		return err
	}
	if consul != "" {
		a, err := startConsul(ctx, consul, b.dir)
		if err != nil {
			return err
		}
		b.undo = append(b.undo, func() error { a.stop(); return nil })
		if _, err := b.addHTTP(ctx, nameConsul, a.socket, agentPath, agentQuestion, `"Authorized":true`); err != nil {
			return err
		}
	}
	bare := filepath.Join(b.dir, "http.sock")
	if err := b.child(ctx, serveHTTP, "--socket", bare, "--answer", answer); err != nil {
		return err
	}
	if _, err := b.addHTTP(ctx, nameBare, bare, ownPath, ownQuestion, `"allowed":true`); err != nil {
		return err
	}
	echoes := filepath.Join(b.dir, "echo.sock")
	if err := b.child(ctx, serveEcho, "--socket", echoes); err != nil {
		return err
	}
	_, err = b.add(nameEcho, ownQuestion, func() (caller, error) { return dialEcho(ctx, echoes, ownQuestion) })
	return err
}

func (b *bench) child(ctx context.Context, args ...string) error {
	c, err := startSelf(ctx, args...)
	if err != nil {
		return err
	}
	b.undo = append(b.undo, c.stop)
	return nil
}

func (b *bench) addHTTP(ctx context.Context, name, socket, path, body, want string) (string, error) {
	return b.add(name, want, func() (caller, error) { return dialHTTP(ctx, socket, path, body) })
}

// add connects the callers of a peer and makes sure that it answers what it
// should: a fast error would look good. It returns the answer.
func (b *bench) add(name, want string, dial func() (caller, error)) (string, error) {
	p := &peer{name: name}
	b.peers = append(b.peers, p)
	text := ""
	for range b.plan.Callers {
		c, err := dial()
		if err != nil {
			return "", fmt.Errorf("connect to %s: %w", name, err)
		}
		p.callers = append(p.callers, c)
		answer, err := c.ask()
		if err != nil {
			return "", fmt.Errorf("ask %s: %w", name, err)
		}
		if !bytes.Contains(answer, []byte(want)) {
			return "", fmt.Errorf("ask %s: got %s, want one with %s", name, answer, want)
		}
		text = string(answer)
	}
	return text, nil
}

func (b *bench) close() error {
	for _, p := range b.peers {
		p.close()
	}
	var errs []error
	for i := len(b.undo) - 1; i >= 0; i-- {
		errs = append(errs, b.undo[i]())
	}
	return errors.Join(errs...)
}
