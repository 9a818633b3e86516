package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// globals are the flags of all commands.
type globals struct {
	socket string
	json   bool
	places places
}

func newRoot() *cobra.Command {
	g := &globals{places: newPlaces()}
	root := &cobra.Command{
		Use:   "connectd",
		Short: "Identity and authorization for Consul mesh services without a proxy",
		Long: `connectd stands beside a Consul agent and gives every local mesh service its
leaf certificate, the trust bundle and authorization decisions, over a Unix
socket. Without Consul, "connectd dev" does the same for development.`,
		Example: `  connectd dev                                          try it: no Consul, no root
  connectd status                                       is everything well?
  connectd authorize --source web --destination db      may web reach db, and why?`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	root.PersistentFlags().StringVar(&g.socket, "socket", "", "path of the daemon's socket (CONNECTD_SOCKET)")
	root.PersistentFlags().BoolVar(&g.json, "json", false, "print JSON, for programs")
	root.AddCommand(
		// Commands that are the daemon.
		newRun(g), newDev(g), newCheck(g),
		// Commands that ask a running one.
		newStatus(g), newServices(g), newLeaf(g), newBundle(g), newPolicy(g), newAuthorize(g),
		// Commands for the administrator of one.
		newReload(g), newAdmission(g),
		// Commands that need none.
		newVersion(g), newStore(g), newCompletion(),
	)
	return root
}

// noCommand explains an unknown command in one line.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "connectd --help lists the commands"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("unknown command %q; %s", args[0], hint)
}

// oneService takes the name of a service and nothing else.
func oneService(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return fmt.Errorf("%s takes the name of one service; for example: %s web", cmd.Name(), cmd.CommandPath())
}

// nothing takes no arguments.
func nothing(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes no argument such as %q; see %s --help", cmd.Name(), args[0], cmd.CommandPath())
}
