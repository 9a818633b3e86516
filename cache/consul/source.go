package consul

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// Source answers from a Consul agent. It implements cache.Source and
// cache.Discoverer.
type Source struct {
	endpoint *endpoint
	logger   hclog.Logger
	// held carries blocking queries, short everything else; over HTTP/2 they
	// are the same.
	held, short *http.Client
	places      *semaphore.Weighted
	signatures  *rate.Limiter

	read     *token
	services map[intentions.Service]*token

	// bundle is the newest that was published, for judging leaves.
	bundle atomic.Pointer[cache.Bundle]
	// woken is closed, and replaced, when upstream came back or a token
	// changed, so that nobody sits out a long pause.
	woken signal
	// rooted is closed, and replaced, when another root became active.
	rooted signal
	denied denied
	// searches paces the requests that look for denied names.
	searches *rate.Limiter
	// matchHealth is the state of the queries for intentions, matches what
	// they learned.
	matchHealth matchHealth
	matches     matchMemory
}

// New checks the configuration; nothing is asked before Run.
func New(c Config) (*Source, error) {
	merged, err := c.resolve()
	if err != nil {
		return nil, err
	}
	e, err := newEndpoint(merged)
	if err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.SignaturesPerSecond == 0 {
		c.SignaturesPerSecond = 5
	}
	s := &Source{
		endpoint:   e,
		logger:     c.Logger.Named("consul"),
		places:     semaphore.NewWeighted(maxShort),
		signatures: rate.NewLimiter(rate.Limit(c.SignaturesPerSecond), max(1, int(c.SignaturesPerSecond))),
		searches:   rate.NewLimiter(searchRate, searchBurst),
		services:   map[intentions.Service]*token{},
	}
	s.held = newClient(e, maxHeld)
	s.short = s.held
	if !e.multiplexed() {
		s.short = newClient(e, maxShort)
	}
	if s.read, err = readTokenOf(c, merged.TokenFile, merged.Token); err != nil {
		return nil, err
	}
	for service, path := range maps.All(c.ServiceTokenFiles) {
		t, err := fileToken(path)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", service, err)
		}
		s.services[service] = t
	}
	return s, nil
}

// readTokenOf finds the read token: the configured file, else the file or the
// value of Consul's environment variables.
func readTokenOf(c Config, envFile, envToken string) (*token, error) {
	switch {
	case c.TokenFile != "":
		return fileToken(c.TokenFile)
	case envFile != "":
		return fileToken(envFile)
	}
	return fixedToken(envToken), nil
}

// newClient never follows a redirect: it could carry a token elsewhere.
func newClient(e *endpoint, conns int) *http.Client {
	return &http.Client{
		Transport: newTransport(e, conns),
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// Address names the agent for people.
func (s *Source) Address() string { return s.endpoint.String() }

// SocketPath is the agent's Unix socket, or empty.
func (s *Source) SocketPath() string { return s.endpoint.socket }

// tokenFor returns the token that signs for a service.
func (s *Source) tokenFor(service intentions.Service) *token {
	if t := s.services[service]; t != nil {
		return t
	}
	return s.read
}

// hasReadToken reports whether shared queries have a token of their own. With
// no tokens at all everything is shared too.
func (s *Source) hasReadToken() bool {
	return s.read.value().Reveal() != "" || len(s.services) == 0
}

// Run implements cache.Source.
func (s *Source) Run(ctx context.Context, feed cache.Feed) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.watchRoots(ctx, feed) })
	if !s.endpoint.multiplexed() {
		g.Go(func() error { return s.holdAgentRoots(ctx) })
	}
	g.Go(func() error { return s.watchIntentions(ctx, feed) })
	g.Go(func() error { return newLeaves(s, feed).run(ctx) })
	g.Go(func() error { return s.pollLocal(ctx, feed) })
	g.Go(func() error { return s.watchTokens(ctx, feed) })
	g.Go(func() error { return s.pollDefault(ctx, feed) })
	err := g.Wait()
	s.held.CloseIdleConnections()
	s.short.CloseIdleConnections()
	return err
}

// signal wakes everyone who waits on it, again and again.
type signal struct {
	mu sync.Mutex // guards ch
	ch chan struct{}
}

// wait returns a channel that is closed at the next send.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
