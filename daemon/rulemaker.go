package daemon

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// ruleMaker turns allow blocks into rules.
type ruleMaker struct {
	names names
	// pins is true where the kernel can hold processes.
	pins bool
	// now is when complaints begin.
	now time.Time
}

// newRuleMaker looks at this kernel through the configuration's eyes.
func newRuleMaker(c Config) (ruleMaker, error) {
	pins, err := socketapi.CanPin(c.Pin)
	return ruleMaker{names: systemNames(), pins: pins, now: time.Now()}, err
}

func (m ruleMaker) rules(services []ServiceConfig) (*rules, error) {
	r := &rules{byService: map[intentions.Service][]rule{}}
	for _, s := range services {
		key := intentions.NewService(s.Name)
		for i, a := range s.Allow {
			one, complaints, err := m.rule(a)
			if err != nil {
				return nil, fmt.Errorf("service %q: %w", s.Name, err)
			}
			one.number = i + 1
			for _, text := range complaints {
				r.complaints = append(r.complaints, m.complaint(key, one.number, text))
			}
			if s.AllowAnyService {
				r.anyService = append(r.anyService, one)
			} else {
				r.byService[key] = append(r.byService[key], one)
			}
		}
	}
	return r, nil
}

func (m ruleMaker) complaint(s intentions.Service, number int, text string) socketapi.Complaint {
	kind := socketapi.ComplaintUnknownName
	if strings.HasPrefix(text, cannotCheck) {
		kind = socketapi.ComplaintUnchecked
	}
	return socketapi.Complaint{Service: s, Kind: kind, Since: m.now,
		Message: fmt.Sprintf("allow block %d of service %q matches nobody: %s", number, s.Name, text)}
}

// cannotCheck begins the complaint about what the kernel cannot tell.
const cannotCheck = "this kernel cannot check "

// rule compiles one block, with a complaint for each selector that can match
// nobody.
func (m ruleMaker) rule(a AllowConfig) (out rule, complaints []string, err error) {
	if a.empty() {
		return out, nil, errNoSelector
	}
	if a.User != "" {
		id, err := m.names.user(a.User)
		if err != nil && !errors.Is(err, errUnknownName) {
			return out, nil, err
		}
		if err != nil {
			complaints = append(complaints, err.Error()+"; it is looked up again every minute")
		}
		out.selectors = append(out.selectors, userSelector{a.User, id, err == nil})
	}
	if a.Group != "" {
		id, err := m.names.group(a.Group)
		if err != nil && !errors.Is(err, errUnknownName) {
			return out, nil, err
		}
		if err != nil {
			complaints = append(complaints, err.Error()+"; it is looked up again every minute")
		}
		out.selectors = append(out.selectors, groupSelector{a.Group, id, err == nil})
	}
	pinned := a.processSelectors()
	if len(pinned) > 0 && !m.pins {
		complaints = append(complaints, cannotCheck+"unit, cgroup and container (it lacks SO_PEERPIDFD, Linux 6.5); "+
			"give the service a socket block of its own, or select by user and group")
	}
	out.selectors = append(out.selectors, pinned...)
	for _, g := range a.Grants {
		out.grants = append(out.grants, socketapi.Grant(g))
	}
	return out, complaints, nil
}

// empty reports whether a block has no selector.
func (a *AllowConfig) empty() bool {
	return a.User == "" && a.Group == "" && a.Unit == "" && a.Cgroup == "" && a.Container == ""
}

// processSelectors are those that need the peer's process to be held.
func (a *AllowConfig) processSelectors() []selector {
	var out []selector
	if a.Unit != "" {
		out = append(out, unitSelector(a.Unit))
	}
	if a.Cgroup != "" {
		out = append(out, newCgroupSelector(a.Cgroup))
	}
	if a.Container != "" {
		out = append(out, containerSelector(a.Container))
	}
	return out
}
