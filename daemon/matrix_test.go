package daemon

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/connectd/connectd/intentions"
	"github.com/connectd/connectd/socketapi"
)

// identities are classes of processes, strangers and look-alikes among them.
func identities(pinned bool) []socketapi.Peer {
	other := strings.Repeat("f", 64)
	list := []socketapi.Peer{
		{UID: 0, GID: 0}, {UID: 1000, GID: 1000}, {UID: 1001, GID: 1000, Groups: []uint32{2000}},
		{UID: 1002, GID: 2000}, {UID: overflowID, GID: overflowID, Groups: []uint32{2000}}, {UID: unknownID, GID: unknownID},
	}
	for _, p := range slices.Clone(list) {
		for _, in := range []socketapi.Peer{
			{Cgroup: "/system.slice/web.service", Unit: "web.service"},
			{Cgroup: "/system.slice/evil.service/web.service", Unit: "evil.service"},
			{Cgroup: "/user.slice/web.service"},
			{Cgroup: "/system.slice/docker-" + someID + ".scope", Unit: "docker-" + someID + ".scope", Container: someID},
			{Cgroup: "/system.slice/docker-" + other + ".scope", Unit: "docker-" + other + ".scope", Container: other},
		} {
			p.Cgroup, p.Unit, p.Container = in.Cgroup, in.Unit, in.Container
			list = append(list, p)
		}
	}
	for i := range list {
		list[i].PID, list[i].Pinned = int32(i+1), pinned
		if !pinned {
			list[i].Cgroup, list[i].Unit, list[i].Container = "", "", ""
		}
	}
	return list
}

// obvious is admission as the documentation says it, slowly.
func obvious(services []ServiceConfig, p socketapi.Peer, g socketapi.Grant, s intentions.Service) bool {
	for _, x := range services {
		if !x.AllowAnyService && s.Name != "" && s != intentions.NewService(x.Name) {
			continue
		}
		for _, a := range x.Allow {
			ok := p.UID != overflowID && p.UID != unknownID || a.User == "" && a.Group == ""
			ok = ok && (a.User == "" || a.User == strconv.FormatUint(uint64(p.UID), 10))
			ok = ok && (a.Group == "" || slices.ContainsFunc(append([]uint32{p.GID}, p.Groups...), func(g uint32) bool {
				return a.Group == strconv.FormatUint(uint64(g), 10)
			}))
			ok = ok && (a.Unit == "" || p.Pinned && a.Unit == p.Unit)
			ok = ok && (a.Container == "" || p.Pinned && a.Container == p.Container)
			open := a.Cgroup == "/system.slice/docker-<64hex>.scope" && p.Container != ""
			ok = ok && (a.Cgroup == "" || p.Pinned && (open || a.Cgroup == p.Cgroup))
			if ok && (g == socketapi.GrantAny || len(a.Grants) == 0 || slices.Contains(a.Grants, string(g))) {
				return true
			}
		}
	}
	return false
}

// randomServices makes blocks of every kind.
func randomServices(r *rand.Rand) []ServiceConfig {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	var out []ServiceConfig
	for _, name := range []string{"web", "db", "*"} {
		s := ServiceConfig{Name: name, AllowAnyService: name == "*"}
		for range r.IntN(4) {
			a := AllowConfig{
				User: pick("", "", "0", "1000", "1001", "1002"), Group: pick("", "", "", "1000", "2000"),
				Unit:      pick("", "", "", "web.service", "evil.service"),
				Cgroup:    pick("", "", "", "/system.slice/web.service", "/system.slice/docker-<64hex>.scope", "/user.slice/web.service"),
				Container: pick("", "", "", "", someID),
			}
			for _, g := range knownGrants {
				if r.IntN(3) == 0 {
					a.Grants = append(a.Grants, g)
				}
			}
			if !a.empty() {
				s.Allow = append(s.Allow, a)
			}
		}
		out = append(out, s)
	}
	return out
}

// TestAdmissionMatrix compares the rules with the obvious reading of the same
// blocks: every identity class with every service and grant, and random pairs
// of blocks and processes; with and without a kernel that holds processes.
func TestAdmissionMatrix(t *testing.T) {
	for _, pinned := range []bool{true, false} {
		t.Run(fmt.Sprintf("pinned_%v", pinned), func(t *testing.T) {
			r := rand.New(rand.NewPCG(5, 6))
			list := identities(pinned)
			grants := []socketapi.Grant{socketapi.GrantLeaf, socketapi.GrantAuthorize, socketapi.GrantDiscover, socketapi.GrantStatus, socketapi.GrantAny}
			pairs, admitted := 0, 0
			compare := func(services []ServiceConfig, rules *rules, p socketapi.Peer, g socketapi.Grant, s intentions.Service) {
				got, want := rules.Admit(p, g, s), obvious(services, p, g, s)
				if got != want {
					t.Fatalf("%+v for %s of %q under %+v: got %v, want %v", p, g, s.Name, services, got, want)
				}
				if pairs++; got {
					admitted++
				}
			}
			services := []intentions.Service{intentions.NewService("web"), intentions.NewService("db"), intentions.NewService("other"), {}}
			for round := range 10_020 {
				blocks := randomServices(r)
				rules, err := ruleMaker{pins: pinned}.rules(blocks)
				if err != nil {
					t.Fatal(err)
				}
				if round >= 20 {
					compare(blocks, rules, list[r.IntN(len(list))], grants[r.IntN(len(grants))], services[r.IntN(len(services))])
					continue
				}
				for _, p := range list {
					for _, g := range grants {
						for _, s := range services {
							compare(blocks, rules, p, g, s)
						}
					}
				}
			}
			t.Logf("%d pairs, %d of them admitted: 0 differences", pairs, admitted)
		})
	}
}
