package sourcetest

import (
	"testing"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// Defaults of Harness.
const (
	DefaultPatience = 10 * time.Second
	DefaultPrompt   = time.Second
)

// Harness is how the suite meets a source.
type Harness struct {
	// New gives the upstream of one behaviour. It may be the same one each
	// time: the suite uses names of its own and tidies up.
	New func(t *testing.T) Fixture
	// Patience bounds every wait. An agent may take a minute to issue leaves
	// anew after a rotation.
	Patience time.Duration
	// Prompt is the time within which a changed intention must be seen.
	Prompt time.Duration
}

// Fixture is an upstream that the suite can change, and the sources over it.
// All members are needed.
type Fixture struct {
	// Source returns a source over the upstream. The suite runs each once, and
	// several one after the other.
	Source func(t *testing.T) cache.Source
	// SetIntentions replaces the intentions of a destination, or of all with
	// "*": the action by the name of the source.
	SetIntentions func(t *testing.T, destination string, sources map[string]string)
	// DeleteIntentions takes a destination's intentions away; it may have none.
	DeleteIntentions func(t *testing.T, destination string)
	// Rotate makes a new root active.
	Rotate func(t *testing.T)
	// RegisterLocal registers a native service on this host; Deregister takes
	// it away.
	RegisterLocal func(t *testing.T, name string)
	Deregister    func(t *testing.T, name string)
	// Default is the default action that the source has to report.
	Default func() intentions.DefaultAction
}

// behaviour is one property of a source.
type behaviour struct {
	name  string
	check func(s *stage)
}

var behaviours = []behaviour{
	{"bundle_is_valid", bundleIsValid},
	{"leaf_is_usable", leafIsUsable},
	{"policy_only_gets_no_leaf", policyOnlyGetsNoLeaf},
	{"good_leaf_is_kept", goodLeafIsKept},
	{"default_action_is_reported", defaultActionIsReported},
	{"local_services_come_and_go", localServicesComeAndGo},
	{"rows_include_wildcards", rowsIncludeWildcards},
	{"flips_are_seen_promptly", flipsAreSeenPromptly},
	{"last_of_ten_flips_stays", lastOfTenFlipsStays},
	{"destination_case_is_ignored", destinationCaseIsIgnored},
	{"changing_wants_lose_nothing", changingWantsLoseNothing},
	{"rotation_reissues_leaves", rotationReissuesLeaves},
	{"run_ends_cleanly", runEndsCleanly},
	{"discovery_follows_registration", discoveryFollowsRegistration},
	{"cache_follows_upstream", cacheFollowsUpstream},
	{"cache_watches_local_services", cacheWatchesLocalServices},
	{"cache_restart_keeps_leaves", cacheRestartKeepsLeaves},
}

// Run checks every behaviour.
func Run(t *testing.T, h Harness) {
	if h.Patience == 0 {
		h.Patience = DefaultPatience
	}
	if h.Prompt == 0 {
		h.Prompt = DefaultPrompt
	}
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) { b.check(newStage(t, h)) })
	}
}
