package consul

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
)

// steady returns the requests per second of the next five minutes.
func (f *fake) steady() (perSecond float64, what string) {
	began := time.Now()
	pass(5 * time.Minute)
	list := f.requests("/", began)
	return float64(len(list)) / 300, tally(list)
}

// TestErrorStorm answers everything with an error. One host asks at most twice
// a second whatever the number of services, keeps what it has, and is back
// soon after the end.
func TestErrorStorm(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"no_leader":      {500, "No cluster leader"},
		"unavailable":    {503, "rate limit exceeded for operation that can only be performed by the leader, try again later"},
		"not_found":      {404, "404 page not found"},
		"limited":        {429, "RPC rate limit exceeded"},
		"connections":    {429, "Your IP is issuing too many concurrent connections, please rate limit your calls\n"},
		"redirect":       {307, "elsewhere"},
		"unknown_token":  {403, "ACL not found"},
		"denied":         {403, "Permission denied: token with AccessorID 'x' lacks permission 'intention:read' on \"a\""},
		"no_content":     {204, ""},
		"no_known_route": {400, "Bad request"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.leafLife = 100 * time.Hour
				had, new := names("had", 40), names("new", 100)
				to := f.run(f.source(Config{}), leavesOf(had...)...)
				pass(10 * time.Second)
				before := to.values()
				f.answer("/", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Location", "http://127.0.0.1:8500/v1/elsewhere")
					say(w, c.status, "1", c.body)
				})
				to.want(leavesOf(append(had, new...)...)...)
				pass(5 * time.Minute)
				if rate, what := f.steady(); rate > 2 {
					t.Errorf("%.2f requests a second: %s", rate, what)
				}
				delete(before, "default {Allow:true Origin:acl}")
				for value := range before {
					if !to.values()[value] {
						t.Errorf("lost %s", value)
					}
				}
				if n := to.count(hasLeaf); n != len(had) {
					t.Errorf("%d leaves were published, want %d", n, len(had))
				}
				f.heal()
				pass(time.Minute)
				for _, name := range new {
					if to.leaf(name) == nil || to.rows(name) == "" {
						t.Fatalf("%s has no leaf or no rows a minute after the end", name)
					}
				}
				if d := to.fallback(); !d.Allow {
					t.Errorf("got default %+v", d)
				}
			})
		})
	}
}

// TestUnreachable dials where nobody listens.
func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.source(Config{})
		dials := 0
		fail := func(context.Context, string, string) (net.Conn, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			dials++
			return nil, io.ErrClosedPipe
		}
		for _, c := range []*http.Client{s.held, s.short} {
			c.Transport.(*http.Transport).DialContext = fail
		}
		to := f.run(s, leavesOf(names("web", 100)...)...)
		pass(5 * time.Minute)
		f.mu.Lock()
		before := dials
		f.mu.Unlock()
		pass(10 * time.Minute)
		f.mu.Lock()
		defer f.mu.Unlock()
		if perSecond := float64(dials-before) / 600; perSecond > 2 || perSecond < 0.3 {
			t.Errorf("%.2f dials a second", perSecond)
		}
		to.mu.Lock()
		defer to.mu.Unlock()
		for _, u := range to.told {
			for _, x := range u.Conditions {
				if x.Failure != nil && x.Failure.Kind != cache.FailureUnreachable {
					t.Fatalf("got %+v", x.Failure)
				}
			}
		}
	})
}

// TestThrottledSignatures refuses leaves as the servers do when too many are
// asked for, in the words of a server and of a client agent.
func TestThrottledSignatures(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"server_agent": {429, "Rate limit reached, try again later"},
		"client_agent": {500, "rpc error making call: Rate limit reached, try again later"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				list := names("web", 200)
				f.answer(leafPath, func(w http.ResponseWriter, r *http.Request) { say(w, c.status, "", c.body) })
				to := f.run(f.source(Config{SignaturesPerSecond: 20}), leavesOf(list...)...)
				pass(time.Minute)
				began := time.Now()
				pass(5 * time.Minute)
				if n := len(f.requests(leafPath, began)); n > 200 {
					t.Errorf("%d requests in five minutes of throttling", n)
				}
				if got := to.kind(cache.WatchLeaf, list[0]); got != cache.FailureThrottled {
					t.Errorf("got failure %q", got)
				}
				if to.failure(cache.WatchBundle, "") != nil || to.failure(cache.WatchIntentions, "") != nil {
					t.Error("other watches fail as well")
				}
				// The coming back of upstream does not end the rest.
				f.heal()
				pass(90 * time.Second)
				for _, name := range list {
					if to.leaf(name) == nil {
						t.Fatalf("%s has no leaf a while after the throttling", name)
					}
				}
			})
		})
	}
}

// TestOneBadServiceDoesNotDelayOthers lets the agent fail for some services
// only.
func TestOneBadServiceDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer(leafPath+"bad", func(w http.ResponseWriter, r *http.Request) { say(w, 403, "", "Permission denied") })
		bad := names("bad", 50)
		to := f.run(f.source(Config{}), leavesOf(bad...)...)
		pass(5 * time.Minute)
		to.want(leavesOf(append(bad, "good")...)...)
		pass(16 * time.Second)
		if to.leaf("good") == nil {
			t.Error("a good service waits for bad ones")
		}
		if to.kind(cache.WatchLeaf, bad[0]) != cache.FailureRefused {
			t.Errorf("got %v", to.failure(cache.WatchLeaf, bad[0]))
		}
	})
}

// TestConnectionLimit imitates the agent's limit of connections: the answer
// comes before any request, and the connection is closed.
func TestConnectionLimit(t *testing.T) {
	const refusal = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: 81\r\n" +
		"Connection: close\r\n\r\nYour IP is issuing too many concurrent connections, please rate limit your calls\n"
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, refusal)
			c.Close()
			accepted <- c
		}
	}()
	s := must(New(Config{Address: "http://" + l.Addr().String()}))(t)
	result := make(chan error)
	go func() {
		_, err := s.get(t.Context(), request{path: rootsPath})
		l.Close()
		result <- err
	}()
	n := 0
	for range accepted {
		n++
	}
	// The transport may meet the refusal before it sent anything; then it only
	// knows of a closed connection.
	if err := <-result; !hasKind(err, cache.FailureThrottled) && !hasKind(err, cache.FailureUnreachable) {
		t.Errorf("got %v", err)
	}
	if n > 4 {
		t.Errorf("one request made %d connections", n)
	}
	if f := statusFailure(429, []byte(refusal)); f.Kind != cache.FailureThrottled {
		t.Errorf("got %+v", f)
	}
}

// TestSilentAgent never answers. Every request ends by its deadline, and the
// pace stays slow.
func TestSilentAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		to := f.run(f.source(Config{}), leavesOf("web")...)
		pass(5 * time.Second)
		f.answer("/", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		pass(2*wait + wait/16 + grace + shortTimeout + 5*time.Second)
		for _, watch := range []string{cache.WatchBundle, cache.WatchIntentions, cache.WatchLocal, cache.WatchDefault} {
			if got := to.kind(watch, ""); got != cache.FailureUnreachable {
				t.Errorf("watch %s: got failure %q", watch, got)
			}
		}
		if rate, what := f.steady(); rate > 1 {
			t.Errorf("%.2f requests a second: %s", rate, what)
		}
		f.heal()
		pass(shortTimeout + 5*time.Second)
		for _, watch := range []string{cache.WatchBundle, cache.WatchIntentions, cache.WatchLocal, cache.WatchDefault} {
			if x := to.failure(watch, ""); x != nil {
				t.Errorf("watch %s still fails: %v", watch, x)
			}
		}
	})
}

// TestTricklingAgent sends a byte now and then: such an answer ends by the
// same deadlines.
func TestTricklingAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.source(Config{})
		defer s.short.CloseIdleConnections()
		f.answer("/", func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					io.WriteString(w, " ")
					http.NewResponseController(w).Flush()
				case <-r.Context().Done():
					return
				}
			}
		})
		for _, x := range reads() {
			began := time.Now()
			err := x.ask(t.Context(), s)
			if took := time.Since(began); !hasKind(err, cache.FailureUnreachable) || took > shortTimeout {
				t.Errorf("%s: after %s got %v", x.name, took, err)
			}
		}
	})
}

// TestFloodOfHeaders bounds what precedes a body.
func TestFloodOfHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.source(Config{})
		defer s.short.CloseIdleConnections()
		f.answer("/", func(w http.ResponseWriter, r *http.Request) {
			for _, name := range names("X-Header", 3000) {
				w.Header().Set(name, "0123456789012345678901234567890123456789")
			}
			say(w, 200, "9", f.roots)
		})
		if _, err := s.get(t.Context(), request{path: rootsPath}); !hasKind(err, cache.FailureUnreachable) {
			t.Errorf("got %v", err)
		}
	})
}

// TestAgentDiesWhileHeld cuts every connection: the queries start anew at once
// and a change that happened meanwhile is seen.
func TestAgentDiesWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		to := f.run(f.source(Config{}), policies("web")...)
		pass(5 * time.Second)
		f.answer("/", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
		f.change(func() { f.abandoned++ })
		pass(time.Minute)
		if to.kind(cache.WatchIntentions, "") == "" {
			t.Error("the watch does not fail")
		}
		f.intend("web", allowA)
		f.heal()
		pass(5 * time.Second)
		if got := to.rows("web"); got != rows(allowA) {
			t.Errorf("got %s", got)
		}
	})
}

// TestHalfOpenLink lets connections die without a word while queries are held.
// HTTP/2 notices by its pings; the kernel, which would end a TCP connection,
// has no part here, so on plain HTTP the deadline of the query remains.
func TestHalfOpenLink(t *testing.T) {
	for name, c := range map[string]struct {
		source func(*fake) *Source
		within time.Duration
	}{
		"plain": {func(f *fake) *Source { return f.source(Config{}) }, wait + wait/16 + grace + 2*time.Second},
		"tls":   {(*fake).tlsSource, 2*keepAlive + 5*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				to := f.run(c.source(f), policies("web")...)
				pass(5 * time.Second)
				f.cut()
				f.intend("web", allowA)
				pass(c.within)
				if got := to.rows("web"); got != rows(allowA) {
					t.Errorf("after %s got %s", c.within, got)
				}
			})
		})
	}
}
