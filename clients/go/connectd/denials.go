package connectd

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/connectd/connectd/intentions"
)

// maxDenials bounds the log: further peers are counted together.
const maxDenials = 1000

// denialLog writes one line for a new denial, and then one a minute with a
// count.
type denialLog struct {
	logger *slog.Logger

	mu   sync.Mutex // guards seen
	seen map[denialKey]*denial
}

type denialKey struct{ source, code, reason string }

type denial struct {
	count  int
	logged time.Time
	what   string
}

// note counts a denial, and logs it if it is a new one.
func (l *denialLog) note(key denialKey, what string) {
	if l.first(&key, what) {
		l.write(key, what, 1)
	}
}

func (l *denialLog) first(key *denialKey, what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[denialKey]*denial{}
	}
	d := l.seen[*key]
	if d == nil && len(l.seen) >= maxDenials {
		*key = denialKey{"(others)", key.code, ""}
		d = l.seen[*key]
	}
	if d == nil {
		l.seen[*key] = &denial{logged: time.Now(), what: what}
		return true
	}
	d.count++
	d.what = what
	return false
}

// minute writes what was counted for a minute, and forgets what was not seen
// for one: it is new when it comes again.
func (l *denialLog) minute() { l.writeCounts(time.Minute) }

// flush writes all that was counted.
func (l *denialLog) flush() { l.writeCounts(0) }

func (l *denialLog) writeCounts(after time.Duration) {
	l.mu.Lock()
	due := map[denialKey]denial{}
	now := time.Now()
	for key, d := range l.seen {
		switch {
		case now.Sub(d.logged) < after:
		case d.count == 0:
			delete(l.seen, key)
		default:
			due[key] = *d
			d.count, d.logged = 0, now
		}
	}
	l.mu.Unlock()
	for key, d := range due {
		l.write(key, d.what, d.count)
	}
}

func (l *denialLog) write(key denialKey, what string, count int) {
	l.logger.Warn("connectd: denied", "source", key.source, "code", key.code, "reason", key.reason, "count", count, "error", what)
}

// noteFailure logs a handshake that failed.
func (s *Source) noteFailure(p Peer, err error) {
	key := denialKey{code: errorCode(err)}
	if p.ID.Service.Name != "" {
		key.source = p.ID.String()
	}
	var e *Error
	if errors.As(err, &e) {
		key.reason = e.decision
	}
	s.denials.note(key, err.Error())
}

// count tells the application of a decision.
func (s *Source) count(source intentions.ID, d Decision, layer int) {
	if s.options.counts != nil {
		s.options.counts(Count{Destination: s.service.String(), Source: source.String(), Decision: d, Layer: layer})
	}
}
