package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/daemon"
)

func main() { os.Exit(start()) }

func start() int {
	if len(os.Args) > 1 && os.Args[1] == daemon.VerifyCommand {
		// The daemon starts this program to read a file that could crash it.
		return daemon.VerifyMain(os.Args[2:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// exitError is the code of every error; commands that answer by their code
// return an exitCode.
const exitError = 2

// exitServed is the code of a daemon that finds another one in its place: it
// may be tried again (EX_TEMPFAIL of sysexits.h).
const exitServed = 75

// execute runs one command and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(stderr, "connectd: "+oneLine(messageOf(ctx, err)))
	if errors.Is(err, daemon.ErrServed) {
		return exitServed
	}
	return exitError
}

// exitCode ends the program with a code and without a message: what there is
// to say was said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// messageOf is what a person reads of an error.
func messageOf(ctx context.Context, err error) string {
	var e *connectd.Error
	switch {
	case errors.As(err, &e):
		return e.Message
	case ctx.Err() != nil:
		return "interrupted"
	}
	return err.Error()
}
