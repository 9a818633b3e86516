package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

type result string

const (
	killed   result = "killed"
	survived result = "survived"
	timedOut result = "timeout"
	invalid  result = "invalid"
)

// runner runs the tests of one package with one mutant in it.
type runner struct {
	dir, temporary string
	timeout        time.Duration
	flags          []string
}

// unchanged returns an error if the tests fail without a mutant.
func (r *runner) unchanged(ctx context.Context) error {
	got, out, err := r.try(ctx, mutant{})
	if err == nil && got != survived {
		err = fmt.Errorf("without any change the tests end as %s:\n%s", got, out)
	}
	return err
}

// tryAll returns the result of each mutant by its key.
func (r *runner) tryAll(ctx context.Context, list []mutant, jobs int, w io.Writer) (map[string]result, error) {
	results := map[string]result{}
	var mu sync.Mutex // Guards results and w.
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, m := range list {
		g.Go(func() error {
			got, _, err := r.try(ctx, m)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			results[m.key()] = got
			fmt.Fprintf(w, "%-8s  %s\n", got, m)
			return nil
		})
	}
	return results, g.Wait()
}

// try runs the tests. The mutant is laid over the tree and written nowhere in
// it, so that several can be tried at once.
func (r *runner) try(ctx context.Context, m mutant) (result, []byte, error) {
	if ctx.Err() != nil {
		return "", nil, ctx.Err()
	}
	place, err := os.MkdirTemp(r.temporary, "mutant")
	if err != nil {
		return "", nil, err
	}
	defer os.RemoveAll(place)
	args := []string{"test", "-vet=off", "-failfast", "-count=1", "-timeout", r.timeout.String()}
	if m.file != "" {
		overlay, err := r.overlay(place, m)
		if err != nil {
			return "", nil, err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", slices.Concat(args, []string{"."}, r.flags)...)
	cmd.Dir, cmd.WaitDelay = r.dir, time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", out, ctx.Err()
	case err == nil:
		return survived, out, nil
	case !errors.As(err, &exit):
		return "", out, err
	case bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")):
		return invalid, out, nil
	case bytes.Contains(out, []byte("panic: test timed out")):
		return timedOut, out, nil
	}
	return killed, out, nil
}

func (r *runner) overlay(place string, m mutant) (string, error) {
	original := filepath.Join(r.dir, m.file)
	content, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	changed := filepath.Join(place, m.file)
	if err := os.WriteFile(changed, m.apply(content), 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(place, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

// copyTree copies what git knows or would add from the current directory.
func copyTree(ctx context.Context, to string) error {
	out, err := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for path := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, path)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(target, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
