package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	trim := flag.String("trim", "", "module `path` to leave out of package names")
	flag.Parse()
	ok, err := summarize(os.Stdin, os.Stdout, *trim)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// An event is one line of the stream. It is also what other runners have to write to
// join the summary: "pass", "fail" or "skip" for each Test, then once for the Package.
type event struct {
	Action      string
	Package     string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
	ImportPath  string
}

// summarize copies the stream to w in readable form. It returns false when anything failed,
// did not end, or when nothing was executed: a run that tested nothing is not a good run.
func summarize(r io.Reader, w io.Writer, trim string) (bool, error) {
	out := bufio.NewWriter(w)
	s := newSummary(out, trim)
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			s.line(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, errors.Join(err, out.Flush())
		}
		// Whoever watches a slow package wants to see the ones before it.
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return false, err
			}
		}
	}
	ok := s.close()
	return ok, out.Flush()
}

// line takes one line of the stream. What is not an event is shown as it is, because a
// tool that hides what it does not understand hides failures.
func (s *summary) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		fmt.Fprintf(s.w, "%s\n", trimNewline(line))
		return
	}
	s.event(e)
}

func trimNewline(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		return line[:n-1]
	}
	return line
}
