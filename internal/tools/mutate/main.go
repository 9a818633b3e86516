package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

type options struct {
	dir, accepted string
	files, flags  []string
	only          *regexp.Regexp
	jobs          int
	timeout       time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", ".", "`directory` of the package, below the current one")
	flag.StringVar(&o.accepted, "accepted", "", "`file` with the mutants that may survive, and why")
	files := flag.String("files", "", "`names` of the files to change, with commas")
	flags := flag.String("flags", "", "more `flags` for go test, with spaces")
	only := flag.String("only", "", "`pattern` of the mutants to try, as they are printed")
	flag.IntVar(&o.jobs, "jobs", runtime.GOMAXPROCS(0), "`number` of mutants at a time")
	flag.DurationVar(&o.timeout, "timeout", 30*time.Second, "`time` that the tests get; what takes longer counts as noticed")
	flag.Parse()
	o.files, o.flags = strings.Split(*files, ","), strings.Fields(*flags)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		err = mutate(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// mutate tries all mutants and returns an error if one survives that may not.
func mutate(ctx context.Context, o options, w io.Writer) error {
	accepted := map[string]string{}
	if o.accepted != "" {
		f, err := os.Open(o.accepted)
		if err != nil {
			return err
		}
		defer f.Close()
		if accepted, err = readAccepted(f); err != nil {
			return fmt.Errorf("%s: %w", o.accepted, err)
		}
	}
	temporary, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	// Others may change the tree while this runs, and failing tests may write
	// into it.
	tree := filepath.Join(temporary, "tree")
	if err := copyTree(ctx, tree); err != nil {
		return err
	}
	all, err := findMutants(filepath.Join(tree, o.dir), o.files)
	if err != nil {
		return err
	}
	r := &runner{dir: filepath.Join(tree, o.dir), temporary: temporary, timeout: o.timeout, flags: o.flags}
	if err := r.unchanged(ctx); err != nil {
		return err
	}
	var chosen []mutant
	for _, m := range all {
		if o.only.MatchString(m.String()) {
			chosen = append(chosen, m)
		}
	}
	results, err := r.tryAll(ctx, chosen, o.jobs, w)
	if err != nil {
		return err
	}
	// A test that left something behind would have failed ever since.
	if err := r.unchanged(ctx); err != nil {
		return err
	}
	return judge(w, all, results, accepted)
}

// readAccepted reads the mutants that may survive: each on a line as it is
// printed, without the number of its line, and the reason on the indented
// lines below.
func readAccepted(r io.Reader) (map[string]string, error) {
	accepted := map[string]string{}
	key := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		text := strings.TrimSpace(line)
		switch {
		case text == "" || strings.HasPrefix(line, "#"):
		case line != strings.TrimLeft(line, " \t"):
			if key == "" {
				return nil, fmt.Errorf("the reason %q belongs to nothing", text)
			}
			accepted[key] = strings.TrimSpace(accepted[key] + " " + text)
		default:
			key = text
			accepted[key] = ""
		}
	}
	for key, reason := range accepted {
		if reason == "" {
			return nil, fmt.Errorf("%s has no reason", key)
		}
	}
	return accepted, lines.Err()
}
