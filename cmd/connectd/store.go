package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/daemon"
)

func newStore(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look at the daemon's store or change its key, while the daemon is stopped",
		Long: `The store keeps leaves, trust bundle and intentions across restarts, encrypted.
Both commands read the same configuration as "connectd run", and need the
daemon to be stopped: it holds the store while it runs.`,
		Example: "  connectd store verify\n  connectd store rekey",
		Args:    noCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStoreVerify(g), newStoreRekey(g))
	return cmd
}

func newStoreVerify(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Examine the store and its copy, and change nothing",
		Long: `Examine the store and its copy as a start of the daemon would: the structure of
the file, the seal of every record, and that no record is missing or old. The
exit code is 0 if the daemon would start from the store, and 1 otherwise.`,
		Example: "  connectd store verify --config /etc/connectd/connectd.hcl",
		Args:    nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(file)
			if err != nil {
				return err
			}
			found, err := daemon.VerifyStore(c)
			if err != nil {
				return err
			}
			print := printFindings
			if g.json {
				print = printFindingsJSON
			}
			if err := print(cmd.OutOrStdout(), found); err != nil {
				return err
			}
			if len(found) == 0 || found[0].Err != nil {
				return exitCode(1)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default "+daemon.DefaultFile+" if it exists)")
	return cmd
}

func printFindings(w io.Writer, found []daemon.StoreFinding) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "there is no store yet")
		return err
	}
	t := newTable(w)
	t.row("FILE", "STATE", "RECORDS", "GENERATION", "FORMAT")
	for _, f := range found {
		if f.Err != nil {
			t.row(f.File, f.Err.Error())
			continue
		}
		state := "whole, sealed"
		if !f.Sealed {
			state = "whole, not encrypted"
		}
		t.row(f.File, state, fmt.Sprint(f.Records), fmt.Sprint(f.Generation), fmt.Sprint(f.Format))
	}
	return t.flush()
}

func printFindingsJSON(w io.Writer, found []daemon.StoreFinding) error {
	type finding struct {
		File       string `json:"file"`
		Error      string `json:"error,omitempty"`
		Records    int    `json:"records"`
		Generation uint64 `json:"generation"`
		Format     int    `json:"format"`
		Sealed     bool   `json:"sealed"`
	}
	list := []finding{}
	for _, f := range found {
		x := finding{File: f.File, Records: f.Records, Generation: f.Generation, Format: f.Format, Sealed: f.Sealed}
		if f.Err != nil {
			x.Error = f.Err.Error()
		}
		list = append(list, x)
	}
	return printJSON(w, map[string]any{"files": list})
}

func newStoreRekey(g *globals) *cobra.Command {
	var file, newKey string
	cmd := &cobra.Command{
		Use:   "rekey",
		Short: "Seal the store anew with another key",
		Long: `Seal every record anew with new data keys, for a new key. A generated key is
replaced by another one at once. Where the key is a file or a systemd
credential, --new-key-file names the new one: from then on both open the store,
and the first start with the new one forgets the old. The command can be
interrupted and repeated at any time.

A store that is not protected as the configuration says (written before
encryption was configured, or with encryption that is off now) is brought into
that form.`,
		Example: `  connectd store rekey
  openssl rand -base64 32 > new.key && chmod 0600 new.key && connectd store rekey --new-key-file new.key`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(file)
			if err != nil {
				return err
			}
			done, err := daemon.RekeyStore(c, newKey)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{
					"records": done.Records, "location": done.Location, "pending": done.Pending,
				})
			}
			text := plural(done.Records, "record") + " written anew"
			if done.Pending {
				text += "; both keys open the store until the first start with the new one: put " + newKey +
					" where the daemon finds its key, and start it"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default "+daemon.DefaultFile+" if it exists)")
	cmd.Flags().StringVar(&newKey, "new-key-file", "", "file with the key to follow")
	return cmd
}
