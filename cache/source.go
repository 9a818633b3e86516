package cache

import (
	"context"
	"encoding/json"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Source is where answers come from: a Consul agent, or the development
// authority.
type Source interface {
	// Run watches upstream and reports into feed until ctx ends; it returns
	// nil then. Retrying, pacing and validation are the source's own: every
	// update it publishes is one complete and verified answer. An error means
	// that the source cannot work at all.
	Run(ctx context.Context, feed Feed) error
}

// Feed connects a source to the cache. Both methods are safe for concurrent
// use.
type Feed interface {
	// Wanted returns the services to watch, and a channel that is closed when
	// the set may have changed.
	Wanted() ([]Want, <-chan struct{})
	// Publish hands over what was learned. It blocks until the cache has taken
	// it, or ctx ends.
	Publish(ctx context.Context, u Update) error
}

// Want is one service that a source has to watch.
type Want struct {
	Service intentions.Service
	// Leaf is false where only the intentions are wanted: a leaf costs a
	// signature.
	Leaf bool
	// Have is the leaf that the cache holds, or nil. A source never asks for a
	// leaf while this one is good.
	Have *Leaf
}

// Update is what a source learned from one answer. Absent members say
// nothing. Repeating a value confirms it.
type Update struct {
	// Bundle is the whole trust bundle.
	Bundle *Bundle
	// Leaf is a leaf that its bundle verifies.
	Leaf *Leaf
	// Intentions holds, for each destination named, all its rows as upstream
	// wrote them (an array, or null for none).
	Intentions map[intentions.Service]json.RawMessage
	// Default is what applies when no intention matches.
	Default *intentions.DefaultAction
	// Normalization is how requests are put in canonical form before they are
	// judged. It comes together with Default, or not at all.
	Normalization *intentions.Normalization
	// Local lists the native services registered on this host; nil says
	// nothing, an empty list says none.
	Local []LocalService
	// Datacenter and Node name where the upstream is.
	Datacenter, Node string
	// Conditions report watches that began to fail or recovered.
	Conditions []Condition
}

// LocalService is a native service registered on this host.
type LocalService struct {
	Service intentions.Service
	ID      string
	Address string
	Port    int
}

// Watches that a condition can concern.
const (
	WatchBundle     = "bundle"
	WatchIntentions = "intentions"
	WatchLeaf       = "leaf"
	WatchLocal      = "local_services"
	WatchDefault    = "default_action"
	WatchToken      = "token"
)

// Condition is the state of one watch: failing, or healthy when Failure is nil.
type Condition struct {
	Watch string
	// Service is set where the watch belongs to one service.
	Service intentions.Service
	Failure *Failure
}

// Failure kinds, for programs.
const (
	FailureUnreachable = "unreachable"
	FailureRefused     = "refused"
	FailureThrottled   = "throttled"
	FailureInvalid     = "invalid_answer"
	FailureUpstream    = "upstream_error"
	FailureFiltered    = "discovery_filtered"
	FailureStore       = "store"
)

// Failure is why a watch has no good answer. It is an error whose text tells
// a person what to do and never holds a secret.
type Failure struct {
	Kind    string
	Message string
	// Since is when the watch began to fail; the cache sets it.
	Since time.Time
}

func (f *Failure) Error() string { return f.Message }
