package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/daemon"
)

func newDev(g *globals) *cobra.Command {
	var o daemon.DevOptions
	verbose := false
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run the daemon on a development authority: no Consul, no root",
		Long: `Run the daemon on a certificate authority in its own process, for trying things
and for developing. Any service name works. It starts with the sample services
web and db, where web may reach db and nobody else may; --dir takes intentions
and services from files in Consul's formats instead, read again when they change.

Nothing outlives it: the authority, its trust domain and the store are new at
each start and never fit for production.`,
		Example: `  connectd dev
  connectd dev --dir ./mesh       # service-intentions entries and service definitions, HCL or JSON`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.DefaultConfig()
			c.LogLevel = "warn"
			if verbose {
				c.LogLevel = "debug"
			}
			o.Socket = g.socket
			socket := o.Socket
			if socket == "" {
				socket = daemon.DevSocket()
			}
			o.Options = daemon.Options{
				Version: newBuild(debug.ReadBuildInfo()).Version,
				Logger:  newLogger(c, cmd.ErrOrStderr()),
				Ready:   func() { welcome(cmd.OutOrStdout(), socket, g.socket) },
			}
			return daemon.Dev(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "directory of intentions and services in Consul's formats (default: the samples)")
	cmd.Flags().BoolVar(&o.DefaultAllow, "default-allow", false, "let everything pass that no intention covers")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log what happens")
	return cmd
}

// welcome prints what to try; each line works as printed in another terminal.
func welcome(to io.Writer, socket, given string) {
	flag := ""
	if given != "" {
		flag = " --socket " + given
	}
	name := programName()
	fmt.Fprintf(to, `connectd serves the DEVELOPMENT authority on %s (Ctrl-C ends it)

Try, in another terminal:

  %s status%s
  curl --unix-socket %s http://connectd/v1/services/web/snapshot
  %s authorize --source web --destination db%s

An application that uses Consul's Connect SDK runs with CONSUL_HTTP_ADDR=unix://%s
`, socket, name, flag, socket, name, flag, socket)
}
