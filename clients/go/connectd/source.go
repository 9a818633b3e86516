package connectd

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Source keeps the snapshot of one service current. One is enough for a
// process: servers and clients share it, and with it the one long poll.
type Source struct {
	client  *Client
	service intentions.Service
	options sourceOptions

	state atomic.Pointer[sourceState]
	// clock is the time since watch was started, at most a second ago.
	clock atomic.Int64
	watch stopwatch

	connections tracker
	denials     denialLog
	found       discovered
	// patient counts the handshakes that wait for a root.
	patient atomic.Int64

	stop    context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// sourceState is what a source knows at one moment. It is immutable, but for
// the channel that is closed when another snapshot takes its place.
type sourceState struct {
	snapshot *Snapshot
	changed  chan struct{}
	// err is why there is no newer snapshot; nil after an answer.
	err error
}

// sourceOptions is what an application may say about a source.
type sourceOptions struct {
	config  Config
	logger  *slog.Logger
	revoked func(Peer, string)
	counts  func(Count)
}

// SourceOption changes how a source works.
type SourceOption func(*sourceOptions)

// WithConfig says which daemon to ask.
func WithConfig(c Config) SourceOption { return func(o *sourceOptions) { o.config = c } }

// WithLogger says where to write what people should know. Without one it is
// slog's default.
func WithLogger(l *slog.Logger) SourceOption { return func(o *sourceOptions) { o.logger = l } }

// OnRevoked is called for every connection that is closed because its peer is
// no longer allowed, with the reason of the decision or the code of the
// failure. It is called by the goroutine that closes, for which Close waits: it
// has to return soon, and must not close the source itself.
func OnRevoked(f func(Peer, string)) SourceOption { return func(o *sourceOptions) { o.revoked = f } }

// OnDecision is called for every decision that the TLS adapters make. It is
// called where a connection or request waits, and has to return at once.
func OnDecision(f func(Count)) SourceOption { return func(o *sourceOptions) { o.counts = f } }

// Count is one decision that an adapter made.
type Count struct {
	Destination string
	Source      string
	Decision    Decision
	// Layer is 4 for a connection and 7 for a request.
	Layer int
}

// NewSource returns when the first snapshot of the service is there. Until ctx
// ends it waits for a daemon that is away or not ready; what waiting does not
// mend, such as a refusal, is returned at once. The service is its name, or
// partition/namespace/name.
func NewSource(ctx context.Context, service string, opts ...SourceOption) (*Source, error) {
	s, err := OpenSource(service, opts...)
	if err != nil {
		return nil, err
	}
	if err := s.Wait(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// OpenSource returns a source without waiting: until its first snapshot it
// denies everything. Wait tells when that is there.
func OpenSource(service string, opts ...SourceOption) (*Source, error) {
	var o sourceOptions
	for _, set := range opts {
		set(&o)
	}
	if o.logger == nil {
		o.logger = slog.Default()
	}
	named, err := parseService(service)
	if err != nil {
		return nil, err
	}
	client, err := NewClient(o.config)
	if err != nil {
		return nil, err
	}
	return startSource(client, named, o), nil
}

func startSource(client *Client, service intentions.Service, o sourceOptions) *Source {
	s := &Source{client: client, service: service, options: o, watch: startStopwatch()}
	s.state.Store(&sourceState{changed: make(chan struct{})})
	s.denials.logger = o.logger.With("service", service.String())
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.follow(ctx) })
	s.running.Go(func() { s.tick(ctx) })
	return s
}

// Wait returns when there is a snapshot, when ctx ends, or when the daemon
// refuses in a way that waiting does not mend.
func (s *Source) Wait(ctx context.Context) error {
	for {
		st := s.state.Load()
		switch {
		case st.snapshot != nil:
			return nil
		case permanent(st.err):
			return st.err
		}
		select {
		case <-st.changed:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), s.state.Load().err)
		}
	}
}

// permanent reports whether somebody has to do something before another answer
// can come.
func permanent(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return errors.Is(err, errClosed)
	}
	switch e.Code {
	case CodeForbidden, CodeBadRequest, CodeNoSuchRoute, CodeMethodNotAllowed, CodeDaemonUntrusted:
		return true
	}
	return false
}

// errClosed ends the waiting for a source that will not learn any more.
var errClosed = errors.New("connectd: the source is closed")

// Snapshot returns what is known now, or nil before the first answer. It costs
// one atomic load: take it for one decision or handshake and let it go.
func (s *Source) Snapshot() *Snapshot { return s.state.Load().snapshot }

// Changed returns a channel that is closed when another snapshot takes the
// place of the present one. Take the channel first and the snapshot then.
func (s *Source) Changed() <-chan struct{} { return s.state.Load().changed }

// Err is why there is no newer snapshot: nil while the daemon answers.
func (s *Source) Err() error { return s.state.Load().err }

// Service is the name of the service, or partition/namespace/name.
func (s *Source) Service() string { return s.service.String() }

// Client asks the same daemon for anything else.
func (s *Source) Client() *Client { return s.client }

// Close ends the long poll and waits for it. What was taken from the source
// denies from then on, because nobody learns of a change any more: close the
// servers first. Open connections are left alone.
func (s *Source) Close() {
	s.closing.Do(func() {
		s.stop()
		s.running.Wait()
		s.clock.Store(closedClock)
		s.denials.flush()
		s.client.Close()
		st := s.state.Load()
		s.state.Store(&sourceState{snapshot: st.snapshot, changed: make(chan struct{}), err: errClosed})
		close(st.changed)
	})
}

// closedClock is later than any snapshot may be used, and not so late that an
// age overflows.
const closedClock = int64(150 * 365 * 24 * time.Hour)

// elapsed brings the clock forward and returns it.
func (s *Source) elapsed() time.Duration {
	now := s.watch.elapsed()
	s.clock.Store(int64(now))
	return now
}

// publish makes a snapshot the present one, and then closes the connections
// that it no longer allows.
func (s *Source) publish(next *Snapshot) {
	before := s.state.Load()
	after := &sourceState{snapshot: next, changed: before.changed}
	same := before.snapshot != nil && before.snapshot.index == next.index
	if !same {
		after.changed = make(chan struct{})
	}
	s.state.Store(after)
	if !same {
		close(before.changed)
	}
	s.revoke()
}

// fail notes why there is no answer. Whoever waits for the first snapshot is
// woken, because a refusal ends the waiting.
func (s *Source) fail(err error) {
	before := s.state.Load()
	after := &sourceState{snapshot: before.snapshot, changed: before.changed, err: err}
	if before.snapshot == nil {
		after.changed = make(chan struct{})
	}
	s.state.Store(after)
	if before.snapshot == nil {
		close(before.changed)
	}
}
