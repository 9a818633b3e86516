package consul

import (
	"bytes"
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"
)

// loop runs one blocking query again and again. It owns Consul's index rules:
// an index that is zero is refused, one that went back starts the query anew,
// and what such an answer widens is believed only when it is given twice.
type loop struct {
	s *Source
	// ask sends the query with the index to block on; 0 does not block.
	ask func(ctx context.Context, index uint64) (answer, error)
	// accept validates and publishes an answer; an error keeps the old value.
	accept func(ctx context.Context, a answer) error
	// narrows reports whether an answer takes rights away and gives none; nil
	// means that this is never known.
	narrows func(a answer) bool
	// failed is told of every failure, and of the end of it with nil.
	failed func(ctx context.Context, err error)
	// slowest bounds the pause between attempts.
	slowest time.Duration

	last    uint64
	body    []byte
	suspect []byte
}

const (
	// suspicion is how long an answer that went back in index must stand
	// before it may widen anything.
	suspicion = 2 * time.Second
	// idlePause is the least time between two answers that say nothing new.
	idlePause = time.Second
	// stormRate bounds answers that do say something new.
	stormRate, stormBurst = 20, 40
)

// run returns when ctx ends, or with the error that stop makes of a failure.
func (l *loop) run(ctx context.Context, stop func(error) error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 250*time.Millisecond, l.slowest
	pauses.RandomizationFactor = 0.5
	storm := rate.NewLimiter(stormRate, stormBurst)
	var index uint64
	for ctx.Err() == nil {
		woken := l.s.woken.wait()
		began := time.Now()
		next, news, err := l.step(ctx, index)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if over := stop(err); over != nil {
				return over
			}
			l.failed(ctx, err)
			index = 0
			pause(ctx, pauses.NextBackOff(), woken)
			continue
		}
		l.failed(ctx, nil)
		pauses.Reset()
		switch {
		case l.suspect != nil:
			pause(ctx, suspicion, nil)
		case !news:
			pause(ctx, idlePause-time.Since(began), nil)
		}
		index = next
		_ = storm.Wait(ctx)
	}
	return nil
}

// step asks once and returns the index to ask with next, and whether the
// answer is another than the last.
func (l *loop) step(ctx context.Context, index uint64) (next uint64, news bool, err error) {
	a, err := l.ask(ctx, index)
	if err != nil {
		return 0, false, err
	}
	if a.index == 0 {
		return 0, false, invalid("Consul's answer has no index")
	}
	news = !bytes.Equal(a.body, l.body)
	if a.index < l.last && news && !l.believed(a) {
		l.suspect = a.body
		return 0, true, nil
	}
	l.suspect = nil
	if err := l.accept(ctx, a); err != nil {
		return 0, false, err
	}
	wentBack := a.index < l.last
	l.last, l.body = a.index, a.body
	if wentBack {
		return 0, news, nil
	}
	return a.index, news, nil
}

// believed reports whether an answer whose index went back may take effect.
func (l *loop) believed(a answer) bool {
	return bytes.Equal(l.suspect, a.body) || (l.narrows != nil && l.narrows(a))
}

// pause waits, unless it is woken. What is not above zero does not wait.
func pause(ctx context.Context, d time.Duration, woken <-chan struct{}) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-woken:
	case <-ctx.Done():
	}
}

// never keeps a loop going through every failure.
func never(error) error { return nil }
