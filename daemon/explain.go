package daemon

import (
	"cmp"
	"fmt"
	"os/user"
	"slices"
	"strconv"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// Explain implements socketapi.Administration: it judges a process by each
// block that could apply, with the rules that are in force now.
func (o *office) Explain(q socketapi.Question) (socketapi.Explanation, error) {
	if q.User != "" {
		p, err := o.maker.peerOf(q.User)
		if err != nil {
			return socketapi.Explanation{}, err
		}
		q.Peer = p
	}
	if q.Grant != socketapi.GrantAny && !slices.Contains(knownGrants, string(q.Grant)) {
		return socketapi.Explanation{}, fmt.Errorf("unknown grant %q; the grants are %v", q.Grant, knownGrants)
	}
	r := o.admission.current.Load().rules
	return socketapi.Explanation{
		Admitted: r.Admit(q.Peer, q.Grant, q.Service), Peer: q.Peer.Facts(), Service: q.Service.Name,
		Grant: q.Grant, Blocks: r.verdicts(&q.Peer, q.Grant, q.Service),
	}, nil
}

// peerOf is a process that a user could start: who it would be, without a
// unit or container.
func (m ruleMaker) peerOf(name string) (socketapi.Peer, error) {
	uid, err := m.names.user(name)
	if err != nil {
		return socketapi.Peer{}, err
	}
	p := socketapi.Peer{UID: uid, GID: unknownID}
	u, err := user.LookupId(idString(uid))
	if err != nil {
		// An id without an entry has no groups that could be known.
		return p, nil
	}
	if gid, err := strconv.ParseUint(u.Gid, 10, 32); err == nil {
		p.GID = uint32(gid)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return p, nil
	}
	for _, g := range groups {
		if gid, err := strconv.ParseUint(g, 10, 32); err == nil {
			p.Groups = append(p.Groups, uint32(gid))
		}
	}
	return p, nil
}

// verdicts judges a process by every block that could apply to a service, all
// of them where none is named; the closest come first.
func (r *rules) verdicts(p *socketapi.Peer, g socketapi.Grant, s intentions.Service) []socketapi.BlockVerdict {
	out := []socketapi.BlockVerdict{}
	add := func(name string, list []rule) {
		for i := range list {
			out = append(out, list[i].verdict(name, p, g))
		}
	}
	add(wildcard, r.anyService)
	for of, list := range r.byService {
		if s.Name == "" || of == s {
			add(of.Name, list)
		}
	}
	slices.SortFunc(out, func(a, b socketapi.BlockVerdict) int {
		return cmp.Or(cmp.Compare(missed(a), missed(b)), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Block, b.Block))
	})
	return out
}

func (r *rule) verdict(service string, p *socketapi.Peer, g socketapi.Grant) socketapi.BlockVerdict {
	v := socketapi.BlockVerdict{Service: service, Block: r.number, Grants: r.gives(g), Selectors: []socketapi.SelectorVerdict{}}
	for _, s := range r.selectors {
		v.Selectors = append(v.Selectors, socketapi.SelectorVerdict{Want: s.want(), Got: s.got(p), Matches: s.matches(p)})
	}
	return v
}

// missed counts what a block lacks to admit.
func missed(v socketapi.BlockVerdict) int {
	n := 0
	for _, s := range v.Selectors {
		if !s.Matches {
			n++
		}
	}
	if !v.Grants {
		n++
	}
	return n
}
