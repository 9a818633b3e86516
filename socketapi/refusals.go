package socketapi

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Refusal is one refused request, as the administrator can look it up.
type Refusal struct {
	ID      string
	At      time.Time
	Peer    Peer
	Grant   Grant
	Service intentions.Service
	Route   string
}

// keptRefusals bounds what is remembered: who is refused can ask for ever.
const keptRefusals = 512

// Refusals remembers the last refusals. One is shared by all servers of a
// daemon; the zero value is ready.
type Refusals struct {
	mu   sync.Mutex // guards last and next
	last []Refusal
	next int
}

// add remembers a refusal in the place of the oldest, and gives it its id.
func (r *Refusals) add(x Refusal) string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	x.ID = hex.EncodeToString(b[:])
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) < keptRefusals {
		r.last = append(r.last, x)
		return x.ID
	}
	r.last[r.next] = x
	r.next = (r.next + 1) % keptRefusals
	return x.ID
}

// find returns the refusal with an id.
func (r *Refusals) find(id string) (Refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.last {
		if x.ID == id {
			return x, true
		}
	}
	return Refusal{}, false
}
