package socketapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"time"
)

// bodyWithin bounds how long a body may take to arrive.
const bodyWithin = 2 * time.Second

// strict refuses requests that two readers could understand differently, and
// reads bodies whole, before anything looks at them. A connection is closed
// after a refusal: what follows on it could be a part of what was refused.
func (a *api) strict(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c := &call{Request: req, w: w, api: a, route: &Route{}, conn: connectionOf(req.Context())}
		defer c.recoverStrict()
		if err := c.plain(); err != nil {
			w.Header().Set("Connection", "close")
			c.fail(err)
			return
		}
		if err := c.wholeBody(); err != nil {
			w.Header().Set("Connection", "close")
			c.fail(err)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// recoverStrict keeps a defect outside of routes from reaching the server,
// which would log the panic's value: it could hold anything.
func (c *call) recoverStrict() {
	if p := recover(); p != nil {
		c.api.logger.Error("handler panicked", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		panic(http.ErrAbortHandler)
	}
}

// plain returns what is wrong with a request's head.
func (c *call) plain() error {
	if problem := c.conn.refused.Load(); problem != nil && c.URL.Path == refusedPath {
		return badRequest("the request is refused: %s", *problem)
	}
	if c.URL.Host != "" || !plainPath(c.URL.EscapedPath()) {
		return badRequest("the path is not in its plain form: no '%%', '//', '.' segments or other scripts")
	}
	return nil
}

// wholeBody puts the whole body in the place of the one that arrives, so that
// a slow sender holds nothing but its own connection.
func (c *call) wholeBody() error {
	if c.ContentLength == 0 {
		return nil
	}
	control := http.NewResponseController(c.w)
	// A server without real connections has no deadlines.
	_ = control.SetReadDeadline(time.Now().Add(bodyWithin))
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, maxRequestBytes))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{})
	}
	// With an error the deadline stays: the server would wait for the rest.
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return bodyError(err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return badRequest("the body did not arrive within %s", bodyWithin)
	case err != nil:
		return badRequest("the body did not arrive whole")
	}
	c.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// plainPath reports whether a path has one meaning only.
func plainPath(p string) bool {
	if p == "" || p[0] != '/' {
		return false
	}
	start := 1
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c <= ' ' || c >= 0x7f || c == '%' || c == '\\' || c == ';' {
			return false
		}
		if c != '/' || i == 0 {
			continue
		}
		if segment := p[start:i]; segment == "" || segment == "." || segment == ".." {
			return false
		}
		start = i + 1
	}
	last := p[start:]
	return last != "." && last != ".."
}
