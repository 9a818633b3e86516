package daemon

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connectd/connectd/intentions"
)

// shopNow is what Consul lists for shop: its own entry and one for everybody.
const shopNow = `[
 {"SourceNS":"default","SourceName":"cart","DestinationNS":"default","DestinationName":"shop","SourceType":"consul",
  "Permissions":[{"Action":"allow","HTTP":{"PathPrefix":"/v1/"}}],"Precedence":9,"CreateIndex":7,"ModifyIndex":7},
 {"SourceNS":"default","SourceName":"web","DestinationNS":"default","DestinationName":"shop","SourceType":"consul",
  "Action":"allow","Precedence":9,"CreateIndex":7,"ModifyIndex":7},
 {"SourceNS":"default","SourceName":"far","DestinationNS":"default","DestinationName":"shop","SourcePeer":"dc9","SourceType":"consul",
  "Action":"allow","Precedence":9,"CreateIndex":7,"ModifyIndex":7},
 {"SourceNS":"default","SourceName":"jobs","DestinationNS":"default","DestinationName":"*","SourceType":"consul",
  "Action":"allow","Precedence":6,"CreateIndex":3,"ModifyIndex":3}]`

func shop(sources string) string {
	return `Kind = "service-intentions" Name = "Shop" Sources = [ ` + sources + ` ]`
}

const cartPrefix = `{ Name = "cart" Permissions = [{ Action = "allow" HTTP { PathPrefix = "/v1/" } }] }`

// TestWhatIf lists, for each proposal, the sources that change as "source: now
// -> then", then the number of those looked at.
func TestWhatIf(t *testing.T) {
	get := func(path string) *intentions.Request { return &intentions.Request{Method: "GET", Path: path} }
	for _, tt := range []struct {
		name, proposal string
		allow          bool
		request        *intentions.Request
		want           string
	}{
		{"same", shop(`{ Name = "web" Action = "allow" }, ` + cartPrefix), false, nil, "of 5"},
		{"deny_one", shop(`{ Name = "web" Action = "deny" }, ` + cartPrefix), false, nil, "web: allow -> deny, of 5"},
		{"deny_by_omission", shop(cartPrefix), false, nil, "web: allow -> deny, of 5"},
		{"omission_and_default", shop(cartPrefix), true, nil, "of 5"},
		{"new_source", shop(`{ Name = "web" Action = "allow" }, { Name = "new" Action = "allow" }, ` + cartPrefix), false, nil, "new: deny -> allow, of 6"},
		{"everybody", shop(`{ Name = "*" Action = "allow" }, ` + cartPrefix), false, nil, "local: deny -> allow, any other: deny -> allow, of 5"},
		{"everybody_denied", shop(`{ Name = "*" Action = "deny" }`), false, nil,
			"cart: per_request -> deny, jobs: allow -> deny, web: allow -> deny, of 5"},
		{"every_destination", `Kind = "service-intentions" Name = "*" Sources = [{ Name = "local" Action = "allow" }]`, false, nil,
			"jobs: allow -> deny, local: deny -> allow, of 5"},
		{"elsewhere", `Kind = "service-intentions" Name = "db" Sources = [{ Name = "*" Action = "allow" }]`, false, nil, "of 5"},
		{"json", `{"Kind":"service-intentions","Name":"shop","Sources":[{"Name":"cart","Action":"allow"}]}`, false, nil,
			"cart: per_request -> allow, web: allow -> deny, of 5"},
		{"other_permissions", shop(`{ Name = "web" Action = "allow" }, { Name = "cart" Permissions = [{ Action = "allow" HTTP { PathPrefix = "/v2/" } }] }`),
			false, nil, "cart: per_request -> per_request (other permissions), of 5"},
		{"request_same", shop(`{ Name = "web" Action = "allow" }, { Name = "cart" Permissions = [{ Action = "allow" HTTP { PathPrefix = "/v" } }] }`),
			false, get("/v1/x"), "of 5"},
		{"request_changes", shop(`{ Name = "web" Action = "allow" }, { Name = "cart" Permissions = [{ Action = "allow" HTTP { PathPrefix = "/v" } }] }`),
			false, get("/v2/x"), "cart: per_request/deny default_action -> per_request/allow permission 0, of 5"},
		{"request_and_connection", shop(`{ Name = "web" Permissions = [{ Action = "deny" HTTP { PathExact = "/v1/x" } }] }, ` + cartPrefix),
			false, get("/v1/x"), "web: allow -> per_request/deny permission 0, of 5"},
		{"jwt_denies", `Kind = "service-intentions" Name = "shop" JWT = { Providers = [{ Name = "okta" }] } Sources = [{ Name = "web" Action = "allow" }, ` + cartPrefix + `]`,
			false, nil, "cart: per_request -> deny, web: allow -> deny, of 5"},
		{"name_taken", shop(`{ Name = "any-other-service" Action = "allow" }, { Name = "web" Action = "allow" }, ` + cartPrefix), false, nil,
			"any-other-service: deny -> allow, of 6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseProposal("proposed.hcl", []byte(tt.proposal))
			if err != nil {
				t.Fatal(err)
			}
			w, err := p.WhatIf(WhatIfInput{
				Destination: intentions.NewService("shop"), TrustDomain: "td.consul", Intentions: json.RawMessage(shopNow),
				Default: intentions.DefaultAction{Allow: tt.allow}, Normalization: intentions.DefaultNormalization(),
				Sources: []intentions.Service{intentions.NewService("local"), intentions.NewService("web")}, Request: tt.request,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := changesText(w); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func changesText(w *WhatIf) string {
	side := func(v WhatIfVerdict) string {
		if v.Request == nil {
			return v.Decision
		}
		text := v.Decision + "/" + v.Request.Decision + " " + v.Request.Reason
		if v.Request.Permission != nil {
			text += fmt.Sprint(" ", *v.Request.Permission)
		}
		return text
	}
	var lines []string
	for _, c := range w.Changes {
		text := c.Source
		if c.AnyOther {
			text = "any other"
		}
		text += ": " + side(c.Now) + " -> " + side(c.Then)
		if c.OtherPermissions {
			text += " (other permissions)"
		}
		lines = append(lines, text)
	}
	return strings.Join(append(lines, fmt.Sprint("of ", w.Sources)), ", ")
}

func TestWhatIfAsksAboutOneSource(t *testing.T) {
	p, err := ParseProposal("proposed.hcl", []byte(shop(`{ Name = "jobs" Action = "deny" }`)))
	if err != nil {
		t.Fatal(err)
	}
	in := WhatIfInput{
		Destination: intentions.NewService("shop"), TrustDomain: "td.consul", Intentions: json.RawMessage(shopNow),
		ID: "spiffe://td.consul/ns/default/dc/dc2/svc/jobs",
	}
	w, err := p.WhatIf(in)
	want := &WhatIfChange{
		Source: in.ID, Changes: true, Now: WhatIfVerdict{Decision: "allow", Reason: "intention", Rule: "r3"},
		Then: WhatIfVerdict{Decision: "deny", Reason: "intention", Rule: "r1"},
	}
	if diff := cmp.Diff(want, w.Asked); err != nil || diff != "" {
		t.Errorf("got %v, -want +got:\n%s", err, diff)
	}
	in.ID = "spiffe://elsewhere.consul/ns/default/dc/dc2/svc/jobs"
	foreign := WhatIfVerdict{Decision: "deny", Reason: "foreign_trust_domain"}
	w, err = p.WhatIf(in)
	if diff := cmp.Diff(&WhatIfChange{Source: in.ID, Now: foreign, Then: foreign}, w.Asked); err != nil || diff != "" {
		t.Errorf("got %v, -want +got:\n%s", err, diff)
	}
}

func TestProposalDestinations(t *testing.T) {
	p, err := ParseProposal("-", []byte(`config_entries { bootstrap = [
	  { Kind = "service-intentions" Name = "shop" Sources = [{ Name = "a" Action = "allow" }] },
	  { Kind = "service-intentions" Name = "*" Sources = [{ Name = "a" Action = "allow" }] },
	  { Kind = "service-intentions" Name = "SHOP" Sources = [{ Name = "b" Action = "allow" }] },
	  { Kind = "service-intentions" Name = "db" Sources = [{ Name = "a" Action = "allow" }] } ] }`))
	if err != nil {
		t.Fatal(err)
	}
	if named, every := p.Destinations(); !slices.Equal(named, []string{"shop", "db"}) || !every {
		t.Errorf("got %q and %t", named, every)
	}
}

func TestWhatIfErrors(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"syntax", "Kind = \"service-intentions\"\nName = ", "p.hcl:2: "},
		{"wrong_action", "Kind = \"service-intentions\"\nName = \"db\"\nSources = [\n{ Name = \"web\" Action = \"perhaps\" }]", `p.hcl:4: `},
		{"no_intentions", `service { name = "web" }`, "p.hcl:1: the file proposes no intentions; write an entry with Kind"},
		{"empty", "", "p.hcl:1: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseProposal("p.hcl", []byte(tt.src)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	p, err := ParseProposal("p.hcl", []byte(shop(cartPrefix)))
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []string{`{}`, `[{"SourceName":"web"}]`, `[{"SourceName":"web","DestinationName":"shop","Action":"perhaps"}]`} {
		if w, err := p.WhatIf(WhatIfInput{Destination: intentions.NewService("shop"), Intentions: json.RawMessage(rows)}); err == nil {
			t.Errorf("%s: got %+v, want an error", rows, w)
		}
	}
}
