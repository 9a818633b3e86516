package sourcetest

import (
	"context"
	"crypto/rand"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// stage is where one behaviour is played: a fixture, and names that no other
// behaviour uses.
type stage struct {
	t      *testing.T
	h      Harness
	f      Fixture
	suffix string
	// registered are the services to take away at the end.
	registered map[intentions.Service]bool
}

func newStage(t *testing.T, h Harness) *stage {
	return &stage{
		t: t, h: h, f: h.New(t), suffix: strings.ToLower(rand.Text()[:8]),
		registered: map[intentions.Service]bool{},
	}
}

// service makes a name that only this behaviour uses.
func (s *stage) service(name string) intentions.Service {
	return intentions.NewService(name + "-" + s.suffix)
}

// intend sets intentions until the behaviour is over.
func (s *stage) intend(destination string, sources map[string]string) {
	s.t.Helper()
	s.f.SetIntentions(s.t, destination, sources)
	s.t.Cleanup(func() { s.f.DeleteIntentions(s.t, destination) })
}

// register registers a service until it is deregistered, or the behaviour is
// over.
func (s *stage) register(service intentions.Service) {
	s.t.Helper()
	s.f.RegisterLocal(s.t, service.Name)
	s.registered[service] = true
	s.t.Cleanup(func() { s.deregister(service) })
}

// deregister takes a service away unless that has happened.
func (s *stage) deregister(service intentions.Service) {
	s.t.Helper()
	if s.registered[service] {
		delete(s.registered, service)
		s.f.Deregister(s.t, service.Name)
	}
}

// record runs a new source against a new recorder with these wants. The
// function that it returns stops the source and waits for it.
func (s *stage) record(wants ...cache.Want) (*recorder, func()) {
	s.t.Helper()
	r := newRecorder(s.t, s.h.Patience, wants)
	source := s.f.Source(s.t)
	return r, s.run("source", func(ctx context.Context) error { return source.Run(ctx, r) })
}

// stageLabel marks the goroutines of a source with the behaviour that they
// belong to; those that they start inherit it.
const stageLabel = "sourcetest_stage"

// run calls something that ends when its context does, and returns how to stop
// it.
func (s *stage) run(what string, call func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		pprof.Do(ctx, pprof.Labels(stageLabel, s.suffix), func(ctx context.Context) { err = call(ctx) })
	}()
	stopped := false
	stop = func() {
		s.t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case <-ended:
		case <-time.After(s.h.Patience):
			s.t.Errorf("the %s did not end within %s", what, s.h.Patience)
			return
		}
		if err != nil {
			s.t.Errorf("the %s ended with an error: %v", what, err)
		}
	}
	s.t.Cleanup(stop)
	return stop
}

// leafWant wants everything of a service.
func leafWant(service intentions.Service) cache.Want {
	return cache.Want{Service: service, Leaf: true}
}

// policyWant wants only the intentions of a service.
func policyWant(service intentions.Service) cache.Want { return cache.Want{Service: service} }
