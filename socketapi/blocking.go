package socketapi

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// blocking is a parsed ?index=&wait=.
type blocking struct {
	// after is the index that the caller has; 0 does not block.
	after uint64
	wait  time.Duration
}

// waitRule says how long reads of one kind block.
type waitRule struct {
	standard, longest time.Duration
	// jitter adds up to a sixteenth.
	jitter bool
	// consul gives errors in the agent's words.
	consul bool
}

var (
	ownWait = waitRule{standard: time.Minute, longest: 10 * time.Minute, jitter: true}
	// Consul's agent serves roots and leaves from its cache, which waits
	// exactly as long as asked, and other queries with a jitter.
	consulCacheWait = waitRule{standard: 10 * time.Minute, longest: 10 * time.Minute, consul: true}
	consulQueryWait = waitRule{standard: 5 * time.Minute, longest: 10 * time.Minute, jitter: true, consul: true}
)

// holdFirst is how long a request is held while a service's first material is
// on its way.
const holdFirst = 30 * time.Second

// parseBlocking reads the two parameters; the error says which is bad.
func parseBlocking(q url.Values, rule waitRule) (blocking, error) {
	b := blocking{wait: rule.standard}
	if text := q.Get("index"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			if rule.consul {
				return b, &consulError{http.StatusBadRequest, "Invalid index"}
			}
			return b, badRequest("index %q is not a whole number", clip(text))
		}
		b.after = n
	}
	if text := q.Get("wait"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			if rule.consul {
				return b, &consulError{http.StatusBadRequest, "Invalid wait time"}
			}
			return b, badRequest("wait %q is not a duration such as 30s or 5m", clip(text))
		}
		if d > 0 {
			b.wait = min(d, rule.longest)
		}
	}
	if rule.jitter {
		b.wait += rand.N(b.wait/16 + 1)
	}
	return b, nil
}

// reading is one look at a value that can change: its index, whether it is
// there, and the channel that is closed when it may have changed.
type reading struct {
	index   uint64
	there   bool
	changed <-chan struct{}
}

// await blocks until look finds the value with another index than the caller
// has, or the wait is over. It returns false if the value never came.
func (c *call) await(b blocking, look func() reading) (bool, error) {
	hold := time.NewTimer(time.Until(c.began.Add(holdFirst)))
	defer hold.Stop()
	wait := time.NewTimer(b.wait)
	defer wait.Stop()
	for {
		r := look()
		if r.there && (b.after == 0 || r.index != b.after) {
			return true, c.delayAhead(b, r)
		}
		var over <-chan time.Time
		if r.there {
			over = wait.C
		} else {
			over = hold.C
		}
		select {
		case <-r.changed:
		case <-c.changed:
			if err := c.readmit(); err != nil {
				return false, err
			}
		case <-over:
			return r.there, nil
		case <-c.api.stopping:
			if r.there {
				return true, nil
			}
			return false, errStopping
		case <-c.Context().Done():
			return false, errCallerGone
		}
	}
}

// delayAhead slows a caller down that asks above our index.
func (c *call) delayAhead(b blocking, r reading) error {
	if b.after <= r.index {
		return nil
	}
	t := time.NewTimer(c.conn.untilAhead(time.Now()))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.Context().Done():
		return errCallerGone
	}
}
