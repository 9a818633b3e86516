package entries

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/connectd/connectd/intentions"
)

func mustParse(t *testing.T, text string) []Entry {
	t.Helper()
	e, err := ParseFile("test.hcl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e.Intentions
}

func TestRowsAreConsuls(t *testing.T) {
	e := mustParse(t, `
Kind = "service-intentions"
Name = "DB"
JWT { Providers = [{ Name = "okta" VerifyClaims = [{ Path = ["aud"] Value = "x" }] }] }
Meta { owner = "data" }
Sources = [
  { Name = "*" Action = "deny" },
  { Name = "web" Description = "why" Permissions = [{ Action = "allow" HTTP { PathExact = "/a<b" } }] },
  { Name = "far" Peer = "east" Action = "allow" },
]`)[0]
	got, err := Encode(e.Rows(3, 4))
	if err != nil {
		t.Fatal(err)
	}
	tail := `,"JWT":{"Providers":[{"Name":"okta","VerifyClaims":[{"Path":["aud"],"Value":"x"}]}]},` +
		`"Meta":{"owner":"data"},"Precedence":P,"CreateIndex":3,"ModifyIndex":4}`
	nine, eight := strings.Replace(tail, "P,", "9,", 1), strings.Replace(tail, "P,", "8,", 1)
	want := `[{"Description":"why","SourceNS":"default","SourceName":"web","DestinationNS":"default","DestinationName":"DB",` +
		`"SourceType":"consul","Permissions":[{"Action":"allow","HTTP":{"PathExact":"/a\u003cb"}}]` + nine +
		`,{"SourceNS":"default","SourceName":"far","DestinationNS":"default","DestinationName":"DB","SourcePeer":"east",` +
		`"SourceType":"consul","Action":"allow"` + nine +
		`,{"SourceNS":"default","SourceName":"*","DestinationNS":"default","DestinationName":"DB","SourceType":"consul",` +
		`"Action":"deny"` + eight + `]`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := intentions.ParseIntentions(got); err != nil {
		t.Error(err)
	}
}

func TestEncodeWritesNullForNone(t *testing.T) {
	if got, err := Encode(nil); err != nil || string(got) != "null" {
		t.Errorf("got %s and %v", got, err)
	}
}

func TestOverlayReplacesByName(t *testing.T) {
	entry := func(name, source, action string) string {
		return `Kind = "service-intentions" Name = "` + name + `" Sources = [{ Name = "` + source + `" Action = "` + action + `" }]`
	}
	var rows []Row
	for _, e := range append(mustParse(t, entry("db", "web", "allow")), mustParse(t, entry("*", "*", "deny"))...) {
		rows = append(rows, e.Rows(1, 1)...)
	}
	current, err := Encode(rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, current, proposed string
		want                    []string
	}{
		{"other_destination", string(current), entry("api", "x", "allow"), []string{"web>db allow", "*>* deny"}},
		{"same_destination", string(current), entry("DB", "api", "deny"), []string{"api>DB deny", "*>* deny"}},
		{"everything", string(current), entry("*", "api", "allow"), []string{"web>db allow", "api>* allow"}},
		{"from_none", "null", entry("db", "api", "allow"), []string{"api>db allow"}},
		{"from_nothing", "", entry("db", "api", "allow"), []string{"api>db allow"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := Entries{Intentions: mustParse(t, c.proposed)}.Overlay(json.RawMessage(c.current), intentions.NewService("db"))
			if err != nil {
				t.Fatal(err)
			}
			list, err := intentions.ParseIntentions(raw)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range list {
				got = append(got, x.SourceName+">"+x.DestinationName+" "+x.Action)
			}
			if strings.Join(got, ", ") != strings.Join(c.want, ", ") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
