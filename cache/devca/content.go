package devca

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/connectd/connectd/cache/devca/entries"
	"github.com/connectd/connectd/intentions"
)

var errDirectory = errors.New("the content comes from a directory; change its files instead")

// content is what files say: the intentions by destination, with the name in
// lower case as Consul looks it up.
type content map[string]*written

// written is an entry with the indexes of its first and last writing.
type written struct {
	entry          entries.Entry
	text           []byte
	create, modify uint64
}

// Replace puts new content in the place of all that files said before: texts
// in Consul's formats by name. Content that Consul would refuse changes
// nothing. It is an error where a directory is watched.
func (a *Authority) Replace(files map[string]string) error {
	if a.cfg.Dir != "" {
		return errDirectory
	}
	return a.load(files)
}

func (a *Authority) load(files map[string]string) error {
	parsed, err := entries.ParseFiles(files)
	if err != nil {
		return err
	}
	index := a.signer.next()
	a.mu.Lock()
	defer a.mu.Unlock()
	next, err := a.state.content.replace(parsed.Intentions, index)
	if err != nil {
		return err
	}
	services := a.state.withFileServices(parsed.Services, index)
	a.change(func(s *state) { s.content, s.services, s.failure = next, services, nil })
	return nil
}

// replace returns the content with new entries. Those that say the same as
// before keep their indexes.
func (c content) replace(list []entries.Entry, index uint64) (content, error) {
	next := make(content, len(list))
	for _, e := range list {
		text, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		w := &written{entry: e, text: text, create: index, modify: index}
		if old := c[strings.ToLower(e.Name)]; old != nil {
			w.create = old.create
			if bytes.Equal(old.text, text) {
				w.modify = old.modify
			}
		}
		next[strings.ToLower(e.Name)] = w
	}
	return next, nil
}

// rows returns the rows of a destination: its own and those of "*", in
// deciding order.
func (c content) rows(destination intentions.Service) (json.RawMessage, error) {
	var rows []entries.Row
	for _, name := range []string{destination.Folded().Name, intentions.Wildcard} {
		if w := c[name]; w != nil && w.entry.Covers(destination) {
			rows = append(rows, w.entry.Rows(w.create, w.modify)...)
		}
	}
	return entries.Encode(rows)
}
