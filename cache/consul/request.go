package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/connectd/connectd/cache"
)

// Limits on what is read from Consul.
const (
	maxBody      = 8 << 20
	maxErrorBody = 4 << 10
)

const (
	// shortTimeout bounds a request that does not block.
	shortTimeout = 15 * time.Second
	// wait is how long a blocking query is held: an unchanged answer confirms
	// what is known, so it is also the pace of confirmations.
	wait = 60 * time.Second
	// grace is what Consul may add to a wait (a sixteenth) and the network to
	// that.
	grace = 10 * time.Second
)

// request is one GET, or a POST where it has a body.
type request struct {
	path  string
	query url.Values
	token cache.Secret
	// index makes the query block until the answer differs from it; 0 does not.
	index uint64
	wait  time.Duration
	body  []byte
}

// answer is one complete body with status 200.
type answer struct {
	body     json.RawMessage
	index    uint64
	filtered bool
}

// errTooLarge means that a body exceeds the limit; asking for less may help.
var errTooLarge = errors.New("the answer is larger than 8 MiB")

// get sends a request and accepts the answer wholly or not at all.
func (s *Source) get(ctx context.Context, r request) (answer, error) {
	resp, body, err := s.send(ctx, r)
	if err != nil {
		return answer{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return answer{}, statusFailure(resp.StatusCode, redact(body, r.token))
	}
	if !isJSON(body) {
		return answer{}, invalid("Consul's answer to %s is not JSON", r.path)
	}
	a := answer{body: body, filtered: resp.Header.Get("X-Consul-Results-Filtered-By-ACLs") == "true"}
	if text := resp.Header.Get("X-Consul-Index"); text != "" {
		if a.index, err = strconv.ParseUint(text, 10, 64); err != nil {
			return answer{}, invalid("Consul's answer to %s has an index that is no number", r.path)
		}
	}
	return a, nil
}

// isJSON reports whether a body is one JSON value. The decoder alone would
// replace invalid UTF-8 silently.
func isJSON(body []byte) bool { return utf8.Valid(body) && json.Valid(body) }

// send does the round trip and reads the body within its limit.
func (s *Source) send(ctx context.Context, r request) (*http.Response, []byte, error) {
	client, release, err := s.acquire(ctx, r.index > 0)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	deadline := shortTimeout
	if r.index > 0 {
		deadline = r.wait + r.wait/16 + grace
	}
	bounded, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	req, err := s.newRequest(bounded, r)
	if err != nil {
		return nil, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, s.transportFailure(ctx, err, r.token)
	}
	defer resp.Body.Close()
	limit := int64(maxBody)
	if resp.StatusCode != http.StatusOK {
		limit = maxErrorBody
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, nil, s.transportFailure(ctx, err, r.token)
	}
	if int64(len(body)) > limit && resp.StatusCode == http.StatusOK {
		return nil, nil, errTooLarge
	}
	return resp, body, nil
}

// acquire gives the client for a held or a short request. On plain HTTP the
// short ones wait for a place here; the held ones were counted when planned.
func (s *Source) acquire(ctx context.Context, held bool) (*http.Client, func(), error) {
	if held || s.endpoint.multiplexed() {
		return s.held, func() {}, nil
	}
	if err := s.places.Acquire(ctx, 1); err != nil {
		return nil, nil, err
	}
	return s.short, func() { s.places.Release(1) }, nil
}

func (s *Source) newRequest(ctx context.Context, r request) (*http.Request, error) {
	query := url.Values{}
	for k, v := range r.query {
		query[k] = v
	}
	if r.index > 0 {
		query.Set("index", strconv.FormatUint(r.index, 10))
		query.Set("wait", strconv.FormatInt(r.wait.Milliseconds(), 10)+"ms")
	}
	u := s.endpoint.base.JoinPath(r.path)
	u.RawQuery = query.Encode()
	method, body := http.MethodGet, io.Reader(nil)
	if r.body != nil {
		method, body = http.MethodPost, bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", r.path, err)
	}
	if t := r.token.Reveal(); t != "" {
		req.Header.Set("X-Consul-Token", t)
	}
	req.Header.Set("User-Agent", userAgent)
	return req, nil
}

const userAgent = "connectd"

// transportFailure explains a round trip that gave no answer. The end of the
// caller's context is passed on as it is.
func (s *Source) transportFailure(ctx context.Context, err error, t cache.Secret) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &cache.Failure{Kind: cache.FailureUnreachable, Message: fmt.Sprintf(
		"no answer from Consul at %s: %v; is the agent running, and is the address right "+
			"(consul { address } or CONSUL_HTTP_ADDR)?", s.endpoint, printable(redact([]byte(err.Error()), t)))}
}

// invalid makes the failure for an answer that is refused. Parts of the answer
// may be among args, so the text is made safe.
func invalid(format string, args ...any) *cache.Failure {
	text := redact(fmt.Appendf(nil, format, args...), cache.Secret{})
	return &cache.Failure{Kind: cache.FailureInvalid, Message: printable(text)}
}

// redact cuts secrets out of foreign text that will be shown: the token that
// the request carried, which some gateways repeat on their error pages, and
// everything from the first PEM block on.
func redact(text []byte, t cache.Secret) []byte {
	if secret := t.Reveal(); secret != "" {
		text = bytes.ReplaceAll(text, []byte(secret), []byte(t.String()))
	}
	if i := bytes.Index(text, []byte("-----BEGIN")); i >= 0 {
		text = append(text[:i:i], cache.Secret{}.String()...)
	}
	return text
}

// statusFailure explains an error answer. A client agent wraps errors, and
// then the status differs, so throttling is recognised by its text.
func statusFailure(status int, body []byte) *cache.Failure {
	text := printable(body)
	lower := strings.ToLower(text)
	switch {
	case strings.Contains(lower, "too many concurrent connections"):
		return &cache.Failure{Kind: cache.FailureThrottled, Message: "the agent refuses more connections from " +
			"this host; something else holds them: raise limits.http_max_conns_per_client or look with ss -tn"}
	case status == http.StatusTooManyRequests, strings.Contains(lower, "rate limit"):
		return &cache.Failure{Kind: cache.FailureThrottled, Message: "Consul throttles: " + text}
	case status == http.StatusForbidden:
		return &cache.Failure{Kind: cache.FailureRefused, Message: "Consul refuses the token: " + text}
	}
	return &cache.Failure{Kind: cache.FailureUpstream, Message: fmt.Sprintf("Consul answers %d: %s", status, text)}
}

// printable makes foreign text safe for one log line.
func printable(body []byte) string {
	if len(body) > 512 {
		body = body[:512]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, strings.TrimSpace(string(body)))
}

// isRefused reports whether an error is a refusal of the token.
func isRefused(err error) bool { return hasKind(err, cache.FailureRefused) }

func hasKind(err error, kind string) bool {
	var f *cache.Failure
	return errors.As(err, &f) && f.Kind == kind
}

// asFailure makes any error a failure for a condition.
func asFailure(err error) *cache.Failure {
	var f *cache.Failure
	if errors.As(err, &f) {
		return f
	}
	return &cache.Failure{Kind: cache.FailureUpstream, Message: err.Error()}
}
