package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/daemon"
)

// client returns a client of the daemon that the flags and the environment
// name, or else of the one that is there.
func (g *globals) client(cmd *cobra.Command) (*connectd.Client, error) {
	path := cmp.Or(g.socket, os.Getenv(connectd.EnvSocket))
	if path == "" {
		var development bool
		if path, development = g.places.choose(cmd.Context()); development {
			fmt.Fprintln(cmd.ErrOrStderr(), "using the development daemon at "+path)
		}
	}
	return connectd.NewClient(connectd.Config{Socket: path})
}

// places are where sockets are looked for when nobody names one.
type places struct{ standard, development string }

func newPlaces() places { return places{connectd.DefaultSocket, daemon.DevSocket()} }

// choose returns the daemon's socket, or that of a living development daemon
// where the other is absent or dead. A socket that may not be opened counts as
// living, so that the answer says so.
func (p places) choose(ctx context.Context) (path string, development bool) {
	if err := probe(ctx, p.standard); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		return p.standard, false
	}
	if isPrivate(filepath.Dir(p.development)) && probe(ctx, p.development) == nil {
		return p.development, true
	}
	return p.standard, false
}

// probeTime is ample for a connection on this host.
const probeTime = time.Second

// probe tells whether somebody listens on a socket.
func probe(ctx context.Context, path string) error {
	conn, err := (&net.Dialer{Timeout: probeTime}).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}

// isPrivate reports whether a directory is this user's alone. A directory in a
// place that everybody may write to could be anybody's.
func isPrivate(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
