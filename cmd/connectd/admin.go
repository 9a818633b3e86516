package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/daemon"
)

// adminTime bounds a question to the daemon on this host.
const adminTime = 30 * time.Second

// askAdmin asks the daemon on its admin socket.
func askAdmin(ctx context.Context, socket, method, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTime)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://connectd"+path, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the admin socket %s may not be opened by this user; run as root or as its owner", socket)
	case err != nil:
		return fmt.Errorf("the daemon does not answer on its admin socket %s; is it running? (%w)", socket, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(adminError(body))
	}
	return json.Unmarshal(body, out)
}

// adminError is the message of an error answer.
func adminError(body []byte) string {
	var e struct {
		Error struct{ Message string }
	}
	if json.Unmarshal(body, &e) != nil || e.Error.Message == "" {
		return "the daemon's answer is not understood; is it another version?"
	}
	return e.Error.Message
}

// adminSocket is the admin socket of the configuration that is named.
func (g *globals) adminSocket(file string) (string, error) {
	c, err := g.reread(file)
	if err != nil {
		// What is on disk may be broken; the daemon that runs listens all the same.
		c = daemon.DefaultConfig()
		if g.socket == "" {
			return "", fmt.Errorf("%w; name the daemon's socket with --socket", err)
		}
		c.Socket.Path = g.socket
	}
	return c.AdminPath(), nil
}

func newReload(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its configuration again",
		Long: `Make the running daemon read its configuration again. One with an error is
refused as a whole, and the old one stays in force. Rights that are gone end at
once, for open connections and waiting reads too. What needs a restart is named.`,
		Example: "  connectd check --diff && connectd reload",
		Args:    nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := g.adminSocket(file)
			if err != nil {
				return err
			}
			var r struct {
				Added   []string `json:"added"`
				Removed []string `json:"removed"`
				Restart []string `json:"restart"`
			}
			if err := askAdmin(cmd.Context(), socket, http.MethodPost, "/v1/reload", &r); err != nil {
				return err
			}
			if g.json {
				return printJSON(cmd.OutOrStdout(), r)
			}
			if len(r.Restart) > 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "needs a restart: "+strings.Join(r.Restart, ", "))
			}
			return printRights(cmd.OutOrStdout(), r.Added, r.Removed)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file, which says where the admin socket is")
	return cmd
}

func newAdmission(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "admission",
		Short:   "Look at who is admitted",
		Example: "  connectd admission explain 1f2e3d4c",
		Args:    nothing,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAdmissionExplain(g))
	return cmd
}

func newAdmissionExplain(g *globals) *cobra.Command {
	var file, user, service, grant string
	pid := 0
	cmd := &cobra.Command{
		Use:   "explain [REFUSAL]",
		Short: "Say why a process is admitted or refused",
		Long: `Say which block of the configuration came closest to admitting a process, and
which of its selectors differ. The process is named by the id in its refusal, by
its pid, or by a user and a service. For the administrator.`,
		Example: "  connectd admission explain 1f2e3d4c\n  connectd admission explain --pid 4711 --service web\n" +
			"  connectd admission explain --user www-data --service web --grant authorize",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			switch {
			case len(args) == 1:
				q.Set("refusal", args[0])
			case pid > 0:
				q.Set("pid", strconv.Itoa(pid))
			case user != "" && service != "":
				q.Set("user", user)
			default:
				return errors.New("say who is meant: a refusal's id, --pid, or --user with --service")
			}
			for name, value := range map[string]string{"service": service, "grant": grant} {
				if value != "" {
					q.Set(name, value)
				}
			}
			return g.explainAdmission(cmd, file, q)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file, which says where the admin socket is")
	cmd.Flags().IntVar(&pid, "pid", 0, "a process")
	cmd.Flags().StringVar(&user, "user", "", "a user, by name or number")
	cmd.Flags().StringVar(&service, "service", "", "the service that is asked for")
	cmd.Flags().StringVar(&grant, "grant", "", "the grant that is asked for (default leaf)")
	return cmd
}
