package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// main reads one command per line on standard input and writes one answer per
// line on standard output, in order; the SDK logs to standard error. The program
// uses Consul's packages as any application would, finds its daemon by
// CONSUL_HTTP_ADDR, and ends with its input.
func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sdkapp:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	a, err := newApp()
	if err != nil {
		return err
	}
	defer a.closeAll()
	commands, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var c command
		if err := commands.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(a.do(c)); err != nil {
			return err
		}
	}
}
