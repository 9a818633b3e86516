package socketapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

const (
	typeJSON = "application/json"
	typeText = "text/plain; charset=utf-8"
)

// write sends one complete response with its length, of one or two pieces.
func (c *call) write(status int, contentType string, pieces ...[]byte) error {
	if status == http.StatusOK && c.route.Grant != GrantNone {
		if err := c.stillDue(); err != nil {
			return err
		}
	}
	length := 0
	for _, p := range pieces {
		length += len(p)
	}
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(length))
	// The deadline belongs to this response only; a connection that waits for
	// news has none.
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(writeWithin))
	c.w.WriteHeader(status)
	for _, p := range pieces {
		if _, err := c.w.Write(p); err != nil {
			return errCallerGone
		}
	}
	return nil
}

// stillDue is the last look before an answer leaves: the rules may have
// changed, and the process that was admitted may have ended.
func (c *call) stillDue() error {
	if err := c.readmit(); err != nil {
		clear(c.w.Header())
		return err
	}
	if c.route.Grant == GrantLeaf && !c.conn.lives() {
		return errCallerGone
	}
	return nil
}

func (c *call) json(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, typeJSON, body)
}

// errorBody is the form of every error on our own routes.
type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// fail answers with an error: JSON on our own routes, bare text on Consul's.
func (c *call) fail(err error) {
	e := asAPIError(err)
	if c.route.Consul {
		c.failAsConsul(e, err)
		return
	}
	if e.retryAfter > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	body, _ := json.Marshal(errorBody{errorDetail{e.code, e.message}})
	_ = c.write(e.status, typeJSON, body)
}

// failAsConsul answers in the agent's way: what is not the caller's fault is
// 500, except where Consul's own status is known.
func (c *call) failAsConsul(e *apiError, err error) {
	status := e.status
	var consul *consulError
	switch {
	case errors.As(err, &consul):
		status = consul.status
	case status == http.StatusServiceUnavailable, status == http.StatusBadGateway:
		status = http.StatusInternalServerError
	}
	_ = c.write(status, typeText, []byte(err.Error()))
}

// consulError is an error in the agent's own words.
type consulError struct {
	status int
	text   string
}

func (e *consulError) Error() string { return e.text }

func (c *call) wrongMethod() {
	text := "method " + clip(c.Method) + " not allowed"
	if !c.route.Consul {
		c.w.Header().Set("Allow", c.route.Method)
		c.fail(&apiError{status: http.StatusMethodNotAllowed, code: CodeMethodNotAllowed,
			message: text + "; use " + c.route.Method})
		return
	}
	// The agent answers OPTIONS on each of its routes.
	c.w.Header().Set("Allow", "OPTIONS,"+c.route.Method)
	if c.Method == http.MethodOptions {
		_ = c.write(http.StatusOK, typeText)
		return
	}
	c.fail(&consulError{http.StatusMethodNotAllowed, text})
}
