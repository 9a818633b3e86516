package consul

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/connectd/connectd/cache"
)

// token is one ACL token: fixed, or the content of a file that is read again
// whenever it changes.
type token struct {
	path string

	mu   sync.Mutex // guards the rest
	text cache.Secret
	// read describes the file as it was when its content was read.
	read os.FileInfo
}

// maxTokenBytes bounds a token file; a token is a UUID.
const maxTokenBytes = 4096

func fixedToken(text string) *token { return &token{text: cache.NewSecret(text)} }

// fileToken reads the file once, so that a wrong path is an error at start.
func fileToken(path string) (*token, error) {
	t := &token{path: path}
	if _, err := t.reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// value returns the token as it was last read.
func (t *token) value() cache.Secret {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// reload reads the file if it changed and reports whether the token is another.
// A file that cannot be read leaves the last content in force. Only one place
// calls it after the start, because whoever sees the change has to wake others.
func (t *token) reload() (bool, error) {
	if t.path == "" {
		return false, nil
	}
	info, err := os.Stat(t.path)
	if err != nil {
		return false, fmt.Errorf("token file: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isRead(info) {
		return false, nil
	}
	text, err := readToken(t.path)
	if err != nil {
		return false, err
	}
	other := t.text.Reveal() != text
	t.text, t.read = cache.NewSecret(text), info
	return other, nil
}

// isRead reports whether the content of the file is known. Tokens are all of
// one size and a replaced file can carry its times along, so the identity of
// the file counts as well.
func (t *token) isRead(info os.FileInfo) bool {
	return t.read != nil && os.SameFile(t.read, info) &&
		info.Size() == t.read.Size() && info.ModTime().Equal(t.read.ModTime())
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxTokenBytes+1))
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	if text == "" || len(raw) > maxTokenBytes || strings.ContainsAny(text, " \t\r\n") {
		return "", fmt.Errorf("token file %s must hold one token and nothing else", path)
	}
	return text, nil
}

// tokensEvery is the pace of looking whether a token file changed.
const tokensEvery = 3 * time.Second

// watchTokens notices changed token files. It asks Consul nothing, so that a
// slow agent does not hold it up.
func (s *Source) watchTokens(ctx context.Context, feed cache.Feed) error {
	tick := time.NewTicker(tokensEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.checkTokens(ctx, feed)
		case <-ctx.Done():
			return nil
		}
	}
}

// checkTokens reads changed token files and wakes everything that failed.
func (s *Source) checkTokens(ctx context.Context, feed cache.Feed) {
	changed := false
	var problems []error
	for _, t := range append(slices.Collect(maps.Values(s.services)), s.read) {
		other, err := t.reload()
		changed = changed || other
		if err != nil {
			problems = append(problems, err)
		}
	}
	x := cache.Condition{Watch: cache.WatchToken}
	if err := errors.Join(problems...); err != nil {
		x.Failure = &cache.Failure{Kind: cache.FailureRefused, Message: err.Error() + "; the last content stays in force"}
	}
	_ = feed.Publish(ctx, cache.Update{Conditions: []cache.Condition{x}})
	if changed {
		s.logger.Info("a token file changed")
		s.woken.send()
	}
}
