package connectd

import (
	"fmt"
	"time"
)

// Codes of errors that the daemon sends.
const (
	CodeBadRequest        = "bad_request"
	CodeForbidden         = "forbidden"
	CodeNoSuchRoute       = "no_such_route"
	CodeMethodNotAllowed  = "method_not_allowed"
	CodeLeafExpired       = "leaf_expired"
	CodeTooLarge          = "too_large"
	CodeTooManyRequests   = "too_many_requests"
	CodeInternal          = "internal"
	CodeUpstreamRefused   = "upstream_refused"
	CodeDiscoveryFiltered = "discovery_filtered"
	CodeNotReady          = "not_ready"
	CodeShuttingDown      = "shutting_down"
)

// Codes of errors that arise on this side of the socket.
const (
	// CodeUnreachable means that there was no answer, or not a whole one.
	CodeUnreachable = "unreachable"
	// CodeInvalidAnswer means that the answer is not one of connectd's.
	CodeInvalidAnswer = "invalid_answer"
	// CodeDaemonUntrusted means that another user serves the socket.
	CodeDaemonUntrusted = "daemon_untrusted"
)

// Codes of handshakes that fail; CodeLeafExpired is one of them, for the leaf
// of either end.
const (
	// CodePeerRefused means that the decision on the connection is deny, here
	// or at the other end.
	CodePeerRefused = "peer_refused"
	// CodeWrongServerID means that another service answered than the expected.
	CodeWrongServerID = "wrong_server_id"
	// CodeUnknownRoot means that the trust bundle does not vouch for the peer.
	CodeUnknownRoot = "unknown_root"
)

// Error is why there is no answer. Programs switch on the code; the message
// is for people and says what to do.
type Error struct {
	Code    string
	Message string
	// Status is the HTTP status; 0 if there was no answer.
	Status int
	// RetryAfter is when to try again; 0 if the daemon did not say.
	RetryAfter time.Duration

	cause error
	// decision is the reason of the decision that refused a peer.
	decision string
}

// Error returns the message and the code.
func (e *Error) Error() string { return "connectd: " + e.Message + " (" + e.Code + ")" }

// Unwrap returns what the system said, where the socket is the trouble.
func (e *Error) Unwrap() error { return e.cause }

func badRequest(format string, args ...any) *Error {
	return &Error{Code: CodeBadRequest, Message: fmt.Sprintf(format, args...)}
}

func leafExpired(format string, args ...any) *Error {
	return &Error{Code: CodeLeafExpired, Message: fmt.Sprintf(format, args...)}
}

func invalidAnswer(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidAnswer, Message: fmt.Sprintf(format, args...)}
}
