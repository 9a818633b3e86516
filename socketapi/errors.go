package socketapi

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/connectd/connectd/cache"
)

// Codes of errors, on which clients switch.
const (
	CodeBadRequest       = "bad_request"
	CodeForbidden        = "forbidden"
	CodeNoSuchRoute      = "no_such_route"
	CodeMethodNotAllowed = "method_not_allowed"
	CodeLeafExpired      = "leaf_expired"
	CodeTooLarge         = "too_large"
	CodeTooManyRequests  = "too_many_requests"
	CodeInternal         = "internal"
	CodeUpstreamRefused  = "upstream_refused"
	CodeFiltered         = "discovery_filtered"
	CodeNotReady         = "not_ready"
	CodeShuttingDown     = "shutting_down"
)

// apiError is an error with its code on the wire. The message says what
// happened and what to do.
type apiError struct {
	status  int
	code    string
	message string
	// retryAfter is in seconds, sent where it is not zero.
	retryAfter int
}

func (e *apiError) Error() string { return e.message }

func badRequest(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, code: CodeBadRequest, message: fmt.Sprintf(format, args...)}
}

func notReady(format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, code: CodeNotReady,
		message: fmt.Sprintf(format, args...), retryAfter: 1,
	}
}

// errCallerGone means that nobody waits for an answer any more.
var errCallerGone = errors.New("the caller went away")

// asAPIError gives any error its place on the wire.
func asAPIError(err error) *apiError {
	var e *apiError
	var f *cache.Failure
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, cache.ErrTooManyNewNames), errors.Is(err, cache.ErrTooManyServices):
		return &apiError{http.StatusTooManyRequests, CodeTooManyRequests, err.Error(), 60}
	case errors.Is(err, cache.ErrStopped):
		return &apiError{http.StatusServiceUnavailable, CodeShuttingDown, err.Error(), 1}
	case errors.Is(err, cache.ErrNoDiscovery):
		return notReady("%v", err)
	case errors.As(err, &f):
		return failureError(f)
	}
	return &apiError{status: http.StatusInternalServerError, code: CodeInternal, message: err.Error()}
}

func failureError(f *cache.Failure) *apiError {
	switch f.Kind {
	case cache.FailureRefused:
		return &apiError{status: http.StatusBadGateway, code: CodeUpstreamRefused, message: f.Message}
	case cache.FailureFiltered:
		return &apiError{status: http.StatusBadGateway, code: CodeFiltered, message: f.Message}
	}
	return notReady("%s", f.Message)
}
