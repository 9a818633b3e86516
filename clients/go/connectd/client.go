package connectd

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
	"time"
)

// Client asks the daemon: one request, one answer. It is safe for concurrent
// use.
type Client struct {
	socket    string
	timeout   time.Duration
	transport *http.Transport
}

// Socket returns the path of the socket that is asked.
func (c *Client) Socket() string { return c.socket }

// Close closes the connections that are not in use.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

const (
	// maxBodyBytes bounds an answer: the largest policies are far smaller.
	maxBodyBytes = 64 << 20
	// firstHold is how long the daemon holds a request while the first
	// material of a service is on its way.
	firstHold = 30 * time.Second
	// standardWait is how long a read with an index and no wait blocks.
	standardWait = time.Minute
)

// request is one question to a route.
type request struct {
	method, path string
	query        url.Values
	// body is sent as JSON unless it is nil.
	body any
	// hold is how long the daemon may rightly take.
	hold time.Duration
}

func get(path string) request {
	return request{method: http.MethodGet, path: path, query: url.Values{}}
}

// blocking makes a read wait for another index than the one given.
func (r request) blocking(index uint64, wait time.Duration) request {
	r.hold = firstHold
	if index > 0 {
		r.query.Set("index", strconv.FormatUint(index, 10))
	}
	if wait > 0 {
		r.query.Set("wait", wait.String())
	} else {
		wait = standardWait
	}
	if index > 0 {
		// The daemon adds up to a sixteenth, so that waiters do not return
		// together.
		r.hold = max(r.hold, wait+wait/16)
	}
	return r
}

// ask sends a request and decodes the answer.
func ask[T any](ctx context.Context, c *Client, r request) (*T, error) {
	body, err := c.exchange(ctx, r)
	if err != nil {
		return nil, err
	}
	out := new(T)
	if err := json.Unmarshal(body, out); err != nil {
		return nil, invalidAnswer("the answer to %s from %s is not what connectd sends (%s); "+
			"are daemon and client of the same release?", r.path, c.socket, decodeTrouble(err))
	}
	return out, nil
}

// decodeTrouble describes why an answer cannot be decoded. It leaves the
// decoder's own words out, because they can quote the answer, and an answer
// can hold a key.
func decodeTrouble(err error) string {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind):
		return "its member " + kind.Field + " is of another type"
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not JSON at byte %d", syntax.Offset)
	}
	return "a member has a value that cannot be read"
}

// exchange returns the body of a successful answer. It tells the end of the
// caller's context from that of the daemon's time.
func (c *Client) exchange(ctx context.Context, r request) ([]byte, error) {
	limit := r.hold + c.timeout
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := c.roundTrip(limited, r)
	var ours *Error
	switch {
	case err == nil, errors.As(err, &ours):
		return body, err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connectd: %s %s: %w", r.method, r.path, context.Cause(ctx))
	case limited.Err() != nil:
		err = fmt.Errorf("no answer from %s within %s; is the daemon stopped or overloaded?", c.socket, limit)
	default:
		err = fmt.Errorf("the daemon at %s went away before its answer was complete (%w); try again", c.socket, err)
	}
	return nil, &Error{Code: CodeUnreachable, Message: err.Error(), cause: err}
}

func (c *Client) roundTrip(ctx context.Context, r request) ([]byte, error) {
	req, err := r.http(ctx)
	if err != nil {
		return nil, err
	}
	// The transport is used without an http.Client: nothing here redirects,
	// and its errors would repeat the URL.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := c.readBody(resp, maxBodyBytes)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.refusal(resp, body)
	}
	return body, nil
}

func (r request) http(ctx context.Context) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "connectd", Path: r.path, RawQuery: r.query.Encode()}
	if r.body == nil {
		return http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	}
	body, err := json.Marshal(r.body)
	if err != nil {
		return nil, badRequest("encode the question: %v", err)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// Asking changes nothing, so the transport may ask again where an idle
	// connection turns out to be closed. The empty value is not sent.
	req.Header["Idempotency-Key"] = nil
	return req, nil
}

// readBody returns a body that is known to be complete and not over the limit.
func (c *Client) readBody(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
		return nil, invalidAnswer("an answer from %s has no length, so nobody can tell whether it is complete; "+
			"is it connectd that listens there?", c.socket)
	}
	var body []byte
	tooLarge := resp.ContentLength > limit
	if !tooLarge {
		var err error
		if body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1)); err != nil {
			return nil, err
		}
		tooLarge = int64(len(body)) > limit
	}
	if tooLarge {
		return nil, invalidAnswer("an answer from %s is larger than %d bytes; is it connectd that listens there?",
			c.socket, limit)
	}
	return body, nil
}

// refusal is the error that the daemon answered with.
func (c *Client) refusal(resp *http.Response, body []byte) *Error {
	var in errorDocument
	if err := json.Unmarshal(body, &in); err != nil || in.Error == nil || in.Error.Code == "" {
		e := invalidAnswer("%s answers %s without an error document; is it connectd that listens there?",
			c.socket, resp.Status)
		e.Status = resp.StatusCode
		return e
	}
	e := in.Error.err()
	e.Status = resp.StatusCode
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// errorDocument is the form of every error on the wire.
type errorDocument struct {
	Error *errorDetail `json:"error,omitempty"`
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (d *errorDetail) err() *Error { return &Error{Code: d.Code, Message: d.Message} }
