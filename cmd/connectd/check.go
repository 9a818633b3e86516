package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/daemon"
)

func newCheck(g *globals) *cobra.Command {
	var file string
	diff := false
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration and the files that it names",
		Long: `Check a configuration as "connectd run" would read it: syntax, unknown keys,
rules that would admit more than was meant, rules that match nobody because a
user or group does not exist or this kernel cannot check them, files that
others can write, token files that cannot be read. Nothing is started and
nothing is changed. --diff asks the running daemon, as its administrator, and
prints the rights that a reload would give and take away.`,
		Example: "  connectd check --config /etc/connectd/connectd.hcl\n  connectd check --diff",
		Args:    nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.reread(file)
			if err != nil {
				return err
			}
			if err := daemon.Check(c); err != nil {
				return err
			}
			if diff {
				return g.printRightsDiff(cmd, c)
			}
			if g.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"ok": true, "services": len(c.Services)})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the configuration is valid: %d service blocks, socket %s, store %s\n",
				len(c.Services), c.Socket.Path, c.StoreDir)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default "+daemon.DefaultFile+" if it exists)")
	cmd.Flags().BoolVar(&diff, "diff", false, "print the rights that a reload would change")
	return cmd
}

// printRightsDiff compares the rights of a configuration with those in force.
func (g *globals) printRightsDiff(cmd *cobra.Command, c daemon.Config) error {
	then, err := c.Rights()
	if err != nil {
		return err
	}
	var now struct {
		Rights []string `json:"rights"`
	}
	if err := askAdmin(cmd.Context(), c.AdminPath(), "GET", "/v1/admission/rights", &now); err != nil {
		return err
	}
	added, removed := without(then, now.Rights), without(now.Rights, then)
	if g.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"added": added, "removed": removed})
	}
	return printRights(cmd.OutOrStdout(), added, removed)
}

// without lists what is in all and not in of.
func without(all, of []string) []string {
	out := []string{}
	for _, x := range all {
		if !slices.Contains(of, x) {
			out = append(out, x)
		}
	}
	return out
}

func printRights(w io.Writer, added, removed []string) error {
	if len(added)+len(removed) == 0 {
		_, err := fmt.Fprintln(w, "no right changes")
		return err
	}
	for _, x := range removed {
		if _, err := fmt.Fprintln(w, "- "+x); err != nil {
			return err
		}
	}
	for _, x := range added {
		if _, err := fmt.Fprintln(w, "+ "+x); err != nil {
			return err
		}
	}
	return nil
}
