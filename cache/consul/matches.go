package consul

import (
	"encoding/json"
	"sync"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// matchMemory is what the queries for intentions learned. It outlives a plan:
// were it lost, a rollback would be believed at once whenever the watched set
// changes, and all rows would be checked again.
type matchMemory struct {
	mu   sync.Mutex // guards the rest
	rows map[intentions.Service]json.RawMessage
	// index is that of the last answer that was accepted. All destinations
	// share it, because it belongs to Consul's table of configuration entries.
	index uint64
}

// recall returns the rows of some destinations, and the index.
func (m *matchMemory) recall(names []intentions.Service) (map[intentions.Service]json.RawMessage, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := make(map[intentions.Service]json.RawMessage, len(names))
	for _, name := range names {
		if raw, ok := m.rows[name]; ok {
			known[name] = raw
		}
	}
	return known, m.index
}

func (m *matchMemory) learn(rows map[intentions.Service]json.RawMessage, index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = map[intentions.Service]json.RawMessage{}
	}
	for name, raw := range rows {
		m.rows[name] = raw
	}
	m.index = index
}

// keep forgets all destinations but these.
func (m *matchMemory) keep(names []intentions.Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	forgetOthers(m.rows, names)
}

// matchHealth sums up the queries for intentions: they share one condition,
// which fails while any of them does.
type matchHealth struct {
	mu      sync.Mutex // guards failing
	failing map[*matchQuery]error
}

// set notes how a query fares and returns a failure of any, or nil.
func (h *matchHealth) set(m *matchQuery, err error) *cache.Failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failing == nil {
		h.failing = map[*matchQuery]error{}
	}
	delete(h.failing, m)
	if err != nil {
		h.failing[m] = err
	}
	// The same one each time, or the condition would seem to change.
	var first *matchQuery
	for q := range h.failing {
		if first == nil || q.group.names[0].String() < first.group.names[0].String() {
			first = q
		}
	}
	if first == nil {
		return nil
	}
	return asFailure(h.failing[first])
}
