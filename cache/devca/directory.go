package devca

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/devca/entries"
)

const (
	// lookEvery is how often the directory is looked at. Looking needs no
	// dependency and works on every file system, mounted ones included.
	lookEvery = 500 * time.Millisecond
	// settleTime is how long after a file's date its content is not trusted
	// to be seen whole: two writes within a clock tick have the same date.
	settleTime = 2 * time.Second
)

// directory reads the files of one directory when they changed.
type directory struct {
	path string
	// seen describes the listing read last.
	seen string
	// settled is set when all files were old enough to rely on their dates.
	settled bool
	// files is what was read last; nil before the first time and after an
	// error.
	files map[string]string
}

// read returns the files by path, and whether they changed since the last
// time. A file that is unreadable is an error.
func (d *directory) read(now time.Time) (files map[string]string, changed bool, err error) {
	paths, listing, settled, err := d.list(now)
	if err != nil {
		d.files = nil
		return nil, false, fmt.Errorf("read development directory: %w; create it or name another", err)
	}
	if d.files != nil && d.settled && d.seen == listing {
		return d.files, false, nil
	}
	if files, err = readFiles(paths); err != nil {
		d.files = nil
		return nil, false, fmt.Errorf("read development directory: %w; make the file readable", err)
	}
	changed = d.files == nil || !maps.Equal(d.files, files)
	d.seen, d.settled, d.files = listing, settled, files
	return files, changed, nil
}

// list returns the paths of the files, a description that changes when they
// do, and whether they are old enough to rely on it.
func (d *directory) list(now time.Time) (paths []string, listing string, settled bool, err error) {
	list, err := os.ReadDir(d.path)
	if err != nil {
		return nil, "", false, err
	}
	var b strings.Builder
	settled = true
	for _, e := range list {
		path := filepath.Join(d.path, e.Name())
		if !isContent(e.Name()) {
			continue
		}
		f, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", false, err
		}
		if !f.Mode().IsRegular() {
			continue
		}
		paths = append(paths, path)
		fmt.Fprintf(&b, "%q %d %d\n", path, f.Size(), f.ModTime().UnixNano())
		settled = settled && now.Sub(f.ModTime()) > settleTime
	}
	return paths, b.String(), settled, nil
}

// isContent tells files from editors' copies.
func isContent(name string) bool {
	return !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".json"))
}

func readFiles(paths []string) (map[string]string, error) {
	files := make(map[string]string, len(paths))
	for _, path := range paths {
		text, err := readFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[path] = text
	}
	return files, nil
}

// readFile reads one byte more than the parser accepts, so that a file that is
// too large is refused with its name.
func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, entries.MaxBytes+1))
	return string(b), err
}

// reload takes over what changed in the directory. What Consul would refuse
// changes nothing but the condition that says so.
func (a *Authority) reload(now time.Time) {
	if a.cfg.Dir == "" {
		return
	}
	a.reading.Lock()
	defer a.reading.Unlock()
	files, changed, err := a.dir.read(now)
	if err == nil && !changed {
		return
	}
	if err == nil {
		err = a.load(files)
	}
	if err != nil {
		a.refuse(err)
		return
	}
	a.logger.Info("read development directory again", "files", len(files))
}

// refuse keeps everything as it was and says why.
func (a *Authority) refuse(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.state.failure; old != nil && old.Message == err.Error() {
		return
	}
	a.change(func(s *state) {
		s.failure = &cache.Failure{Kind: cache.FailureInvalid, Message: err.Error()}
	})
}
