package socketapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Administration is what the administrator can ask for on the admin socket.
type Administration interface {
	// Reload reads the configuration again. An error means that nothing
	// changed.
	Reload() (Reloaded, error)
	// Rights lists what is given to whom, one line a rule.
	Rights() []string
	// Explain says how each block judges a process.

	Explain(Question) (Explanation, error)
}

// Reloaded is what reading the configuration again changed.
type Reloaded struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	// Restart names blocks whose changes need a restart.
	Restart []string `json:"restart"`
}

// Question asks admission about a process, or about a user where there is
// none yet.
type Question struct {
	Peer Peer
	// User takes the place of Peer where it is not empty.
	User    string
	Grant   Grant
	Service intentions.Service
}

// Explanation is how the blocks of the configuration judge a process.
type Explanation struct {
	Admitted bool `json:"admitted"`
	// Peer is who was judged.
	Peer    PeerFacts `json:"peer"`
	Service string    `json:"service,omitempty"`
	Grant   Grant     `json:"grant"`
	// Blocks are those that could apply, the closest first.
	Blocks []BlockVerdict `json:"blocks"`
}

// PeerFacts are what is known of a process.
type PeerFacts struct {
	PID       int32    `json:"pid,omitempty"`
	UID       uint32   `json:"uid"`
	GID       uint32   `json:"gid"`
	Groups    []uint32 `json:"groups"`
	Pinned    bool     `json:"pinned"`
	Cgroup    string   `json:"cgroup,omitempty"`
	Unit      string   `json:"unit,omitempty"`
	Container string   `json:"container,omitempty"`
}

// Facts are the peer's, in the form of the wire.
func (p *Peer) Facts() PeerFacts {
	return PeerFacts{p.PID, p.UID, p.GID, append([]uint32{}, p.Groups...), p.Pinned, p.Cgroup, p.Unit, p.Container}
}

// BlockVerdict is how one allow block judges a process.
type BlockVerdict struct {
	Service string `json:"service"`
	// Block is the place of the block in its service, from 1.
	Block     int               `json:"block"`
	Selectors []SelectorVerdict `json:"selectors"`
	// Grants is true if the block gives the grant in question.
	Grants bool `json:"grants"`
}

// SelectorVerdict is what a selector wants and what the process has.
type SelectorVerdict struct {
	Want    string `json:"want"`
	Got     string `json:"got"`
	Matches bool   `json:"matches"`
}

func (a *api) addAdminRoutes(r *router) {
	r.add(Route{Method: http.MethodPost, Pattern: "/v1/reload", Grant: GrantStatus, handle: a.reload})
	r.add(Route{Method: http.MethodGet, Pattern: "/v1/admission/rights", Grant: GrantStatus, handle: a.rights})
	r.add(Route{Method: http.MethodGet, Pattern: "/v1/admission/explain", Grant: GrantStatus, handle: a.explainAdmission})
}

func (a *api) reload(c *call) error {
	r, err := a.cfg.Administration.Reload()
	if err != nil {
		return badRequest("the configuration is refused as a whole and the old one stays in force: %v", err)
	}
	return c.json(r)
}

func (a *api) rights(c *call) error {
	return c.json(struct {
		Rights []string `json:"rights"`
	}{a.cfg.Administration.Rights()})
}

// explained is the answer: a question that was asked before, with its time.
type explained struct {
	Refusal string     `json:"refusal,omitempty"`
	At      *time.Time `json:"at,omitempty"`
	Route   string     `json:"route,omitempty"`
	Explanation
}

func (a *api) explainAdmission(c *call) error {
	out, question, err := a.questionOf(c)
	if err != nil {
		return err
	}
	if out.Explanation, err = a.cfg.Administration.Explain(question); err != nil {
		return badRequest("%v", err)
	}
	return c.json(out)
}

// questionOf reads who is asked about: a refusal, a process or a user.
func (a *api) questionOf(c *call) (explained, Question, error) {
	q := c.URL.Query()
	question := Question{Grant: GrantLeaf}
	if g := Grant(q.Get("grant")); g != "" {
		question.Grant = g
	}
	if name := q.Get("service"); name != "" {
		s, err := c.named(name)
		if err != nil {
			return explained{}, question, err
		}
		question.Service = s
	}
	switch {
	case q.Has("refusal"):
		x, ok := a.cfg.Refusals.find(q.Get("refusal"))
		if !ok {
			return explained{}, question, badRequest("refusal %q is not among the last %d; repeat the request and take its id",
				clip(q.Get("refusal")), keptRefusals)
		}
		at := x.At.UTC()
		return explained{Refusal: x.ID, At: &at, Route: x.Route}, Question{Peer: x.Peer, Grant: x.Grant, Service: x.Service}, nil
	case q.Has("pid"):
		pid, err := strconv.ParseInt(q.Get("pid"), 10, 32)
		if err == nil {
			question.Peer, err = peerOfPID(int32(pid))
		}
		if err != nil {
			return explained{}, question, badRequest("process %q cannot be looked at: %v", clip(q.Get("pid")), err)
		}
		return explained{}, question, nil
	case q.Has("user") && question.Service.Name != "":
		question.User = q.Get("user")
		return explained{}, question, nil
	}
	return explained{}, question, badRequest("say who is meant: refusal, pid, or user with service")
}

var errNoProcess = errors.New("there is no such process")
