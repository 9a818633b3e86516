package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// child is a process that is measured.
type child struct {
	cmd *exec.Cmd
	// stdin ends the child when it is closed.
	stdin io.Closer
	log   *bytes.Buffer
}

// stopWithin is the time that a child gets to end by itself.
const stopWithin = 10 * time.Second

// startSelf starts this program again as a server and waits until it listens.
func startSelf(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, append([]string{"serve"}, args...)...), log: &bytes.Buffer{}}
	c.cmd.Stderr, c.cmd.WaitDelay = c.log, stopWithin
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.stdin = stdin
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != readyLine {
		return nil, errors.Join(fmt.Errorf("start %s: it said %q (%v)", args[0], line, err), c.stop())
	}
	return c, nil
}

// stop ends a child and waits for it.
func (c *child) stop() error {
	_ = c.stdin.Close()
	late := time.AfterFunc(stopWithin, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.cmd.Args, " "), err, c.log)
	}
	return nil
}
