package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
)

func newServices(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "services",
		Short: "List the services that this user may act for",
		Long: `List the services that this user may act for, with what the daemon holds for
each of them.`,
		Example: "  connectd services\n  connectd services --json",
		Args:    nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.Services(cmd.Context())
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printServices(cmd.OutOrStdout(), list.Services)
		},
	}
}

func printServices(w io.Writer, services []connectd.ServiceStatus) error {
	if len(services) == 0 {
		_, err := fmt.Fprintln(w, "No services yet: register one as native with Consul, or ask for its leaf (connectd leaf NAME).")
		return err
	}
	t := newTable(w)
	t.row("SERVICE", "READY", "FRESHNESS", "LEAF ENDS", "RULES", "CAUSE")
	for _, s := range services {
		t.row(s.Service.String(), yesNo(s.Ready), s.Freshness, leafEnd(s.Leaf), strconv.Itoa(s.Rules), orDash(s.Cause))
	}
	return t.flush()
}

func leafEnd(l *connectd.LeafStatus) string {
	switch {
	case l == nil:
		return "-"
	case l.Error != "":
		return date(l.NotAfter) + " (" + l.Error + ")"
	}
	return date(l.NotAfter)
}
