package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/daemon"
)

func main() { os.Exit(start()) }

func start() int {
	if len(os.Args) > 1 && os.Args[1] == daemon.VerifyCommand {
		// The daemon that runs in this process reads its store in another.
		return daemon.VerifyMain(os.Args[2:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// execute runs one command and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	fmt.Fprintln(stderr, "connectd-bench:", err)
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "connectd-bench",
		Short: "Measure connectd beside what it is compared with",
		Long: "Measure connectd beside what it is compared with.\n\n" +
			"All that is compared takes turns in many short rounds of one run, and the medians over\n" +
			"the rounds count, so that other work on the machine hits all alike. Compare ratios\n" +
			"between machines, never times.",
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newAuthorize(), newDecide(), newServe())
	return root
}

// progress shows how far a run is, where a person watches.
type progress struct{ w io.Writer }

func newProgress(w io.Writer) progress {
	f, ok := w.(*os.File)
	if !ok {
		return progress{}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return progress{}
	}
	return progress{w}
}

// say replaces the line; an empty text removes it.
func (p progress) say(format string, args ...any) {
	if p.w != nil {
		fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
	}
}
