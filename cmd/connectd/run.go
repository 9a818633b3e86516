package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/connectd/connectd/daemon"
)

func newRun(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon beside a Consul agent",
		Long: `Run the daemon until it is told to stop (SIGINT or SIGTERM). SIGHUP, or
"connectd reload", makes it read its configuration again.

The configuration says who may have what; without a file the daemon listens on
` + daemon.DefaultSocket + ` and admits its own user unless that is root. Where
Consul is comes from the file or from Consul's usual environment variables
(CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN_FILE, CONSUL_CACERT and so on).`,
		Example: `  connectd run --config /etc/connectd/connectd.hcl
  CONSUL_HTTP_ADDR=unix:///run/consul/http.sock connectd run --socket /run/user/1000/connectd.sock`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(file)
			if err != nil {
				return err
			}
			if g.socket != "" {
				c.Socket.Path = g.socket
			}
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			return daemon.Run(cmd.Context(), c, daemon.Options{
				Version: newBuild(debug.ReadBuildInfo()).Version,
				Logger:  newLogger(c, cmd.ErrOrStderr()),
				Load:    func() (daemon.Config, error) { return g.reread(file) },
				Hangup:  hangup,
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default "+daemon.DefaultFile+" if it exists)")
	return cmd
}

// readConfig reads the file that is named, or else the standard one if there
// is one.
func readConfig(file string) (daemon.Config, error) {
	if file != "" {
		return daemon.LoadConfig(file)
	}
	c, err := daemon.LoadConfig(daemon.DefaultFile)
	if errors.Is(err, fs.ErrNotExist) {
		return daemon.DefaultConfig(), nil
	}
	return c, err
}

// reread reads the same configuration again, with the flags of the start.
func (g *globals) reread(file string) (daemon.Config, error) {
	c, err := readConfig(file)
	if err == nil && g.socket != "" {
		c.Socket.Path = g.socket
	}
	return c, err
}

func newLogger(c daemon.Config, to io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "connectd", Level: hclog.LevelFromString(c.LogLevel), JSONFormat: c.LogJSON, Output: to,
	})
}

// programName is how the user called this program, for commands to try.
func programName() string {
	if len(os.Args) > 0 && os.Args[0] != "" {
		return os.Args[0]
	}
	return "connectd"
}
