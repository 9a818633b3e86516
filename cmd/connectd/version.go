package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version that a build without module information has.
const release = "0.1.0-dev"

// build describes this program.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	// Modified is true if the tree had changes that no commit holds.
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

func newBuild(info *debug.BuildInfo, ok bool) build {
	b := build{Version: release}
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (b build) String() string {
	text := "connectd " + b.Version
	if b.Commit != "" {
		text += ", commit " + b.Commit
	}
	if b.Modified {
		text += " with changes"
	}
	if b.Go != "" {
		text += ", " + b.Go
	}
	return text
}

func newVersion(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, the commit and the Go release of this program",
		Example: "  connectd version --json",
		Args:    nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := newBuild(debug.ReadBuildInfo())
			if g.json {
				return printJSON(cmd.OutOrStdout(), b)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), b)
			return err
		},
	}
}
