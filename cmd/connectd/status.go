package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
)

func newStatus(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show whether the daemon and its services are well",
		Long: `Show the daemon's upstream, store, trust bundle and default action, the services
that this user may see, and what is wrong. The exit code is 0 for ok, 1 for
degraded (served from what is known) and 2 for failing or no answer.`,
		Example: "  connectd status\n  connectd status --json | jq -r .state",
		Args:    nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			print := printStatus
			if g.json {
				print = func(w io.Writer, s *connectd.Status) error { return printJSON(w, s) }
			}
			if err := print(cmd.OutOrStdout(), s); err != nil {
				return err
			}
			return statusCode(s.State)
		},
	}
}

// statusCode is how monitoring reads a state; one that is not known is
// failing.
func statusCode(state string) error {
	switch state {
	case connectd.StateOK:
		return nil
	case connectd.StateDegraded:
		return exitCode(1)
	}
	return exitCode(2)
}

func printStatus(w io.Writer, s *connectd.Status) error {
	t := newTable(w)
	t.row("state", s.State)
	t.row("daemon", fmt.Sprintf("connectd %s, up %s", orDash(s.Version), span(time.Duration(s.UptimeSeconds*float64(time.Second)))))
	t.row("upstream", upstreamText(s))
	t.row("store", storeText(s.Store)+storeKeyText(s.StoreKey))
	t.row("bundle", bundleText(s.Bundle))
	t.row("default", defaultText(s.DefaultAction))
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := printServices(w, s.Services); err != nil {
		return err
	}
	return printProblems(w, s.Problems)
}

func upstreamText(s *connectd.Status) string {
	text := s.Upstream.Name
	if s.Upstream.Node != "" {
		text += ", node " + s.Upstream.Node
	}
	if s.Datacenter != "" {
		text += ", datacenter " + s.Datacenter
	}
	if s.Upstream.Confirmed {
		return text + ": answers"
	}
	return text + ": has confirmed nothing lately"
}

func storeText(state string) string {
	switch state {
	case "behind":
		return "behind: the latest changes are not on disk yet"
	case "degraded":
		return "degraded: changes do not reach the disk, and a restart would lose them"
	}
	return state
}

// storeKeyText says what the store's encryption is worth.
func storeKeyText(location string) string {
	switch location {
	case "":
		return ""
	case "off":
		return "; not encrypted"
	case "systemd-credential":
		return "; its key is a systemd credential"
	case "file":
		return "; its key is in a file of yours"
	case "generated-file":
		return "; its key is beside it"
	}
	return "; its key is in: " + location
}

func bundleText(b *connectd.BundleStatus) string {
	if b == nil {
		return "none yet: no service can be used"
	}
	return fmt.Sprintf("%s of %s; the active one ends %s; %s", plural(b.Roots, "root"), b.TrustDomain,
		date(b.ActiveRootNotAfter), confirmed(b.Freshness, b.AgeSeconds))
}

func defaultText(d *connectd.DefaultAction) string {
	if d == nil {
		return "deny, until it is known what Consul's default is"
	}
	return d.Action + " (" + originText(d.Origin) + ")"
}

// originText says who set a default action.
func originText(origin string) string {
	switch origin {
	case "config":
		return "set in the daemon's configuration"
	case "agent":
		return "Consul's default_intention_policy"
	case "acl":
		return "Consul's ACL default policy"
	case "unknown":
		return "nobody said otherwise"
	}
	return origin
}

func printProblems(w io.Writer, problems []connectd.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w)
	t.row("PROBLEM", "SERVICE", "SINCE", "MESSAGE")
	for _, p := range problems {
		t.row(p.Watch, orDash(p.Service), date(p.Since), p.Kind+": "+p.Message)
	}
	return t.flush()
}
