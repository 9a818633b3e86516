package consul

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/connectd/connectd/cache"
)

// token is one ACL token: fixed, or the content of a file that is read again
// whenever it changes.
type token struct {
	path string

	mu      sync.Mutex // guards the rest
	text    cache.Secret
	size    int64
	changed time.Time
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

// value returns the token as it is now. A file that cannot be read leaves the
// last content in force.
func (t *token) value() cache.Secret {
	_, _ = t.reload()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// reload reads the file if it changed and reports whether the token is another.
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
	if info.Size() == t.size && info.ModTime().Equal(t.changed) {
		return false, nil
	}
	text, err := readToken(t.path)
	if err != nil {
		return false, err
	}
	other := t.text.Reveal() != text
	t.text, t.size, t.changed = cache.NewSecret(text), info.Size(), info.ModTime()
	return other, nil
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
