package main

import (
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/clients/go/connectd"
)

// decode reads what --json printed.
func decode[T any](t *testing.T, r result) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatalf("%v in %+v", err, r)
	}
	return v
}

func TestLeafShowsItsKeyOnlyWhenAsked(t *testing.T) {
	socket := socketPath(t)
	startDaemon(t, socket)
	for _, tt := range []struct {
		name       string
		args       []string
		want       string
		blocks     []string
		showsNoKey bool
	}{
		{"plain", nil, "/svc/web", nil, true},
		{"json", []string{"--json"}, `"private_key_pem": "[redacted]"`, nil, true},
		{"pem", []string{"--pem"}, "BEGIN CERTIFICATE", []string{"CERTIFICATE"}, true},
		{"json_pem", []string{"--json", "--pem"}, `"[redacted]"`, nil, true},
		{"key", []string{"--key"}, "BEGIN PRIVATE KEY", []string{"PRIVATE KEY"}, false},
		{"pem_key", []string{"--pem", "--key"}, "", []string{"CERTIFICATE", "PRIVATE KEY"}, false},
		{"json_key", []string{"--json", "--key"}, `"private_key_pem": "-----BEGIN PRIVATE KEY`, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := runCommand(t, append([]string{"leaf", "web", "--socket", socket}, tt.args...)...)
			if got.code != 0 || got.err != "" || !strings.Contains(got.out, tt.want) {
				t.Errorf("got %+v, want %q", got, tt.want)
			}
			if tt.showsNoKey && strings.Contains(got.out, "PRIVATE KEY") {
				t.Errorf("the key is shown: %s", got.out)
			}
			if blocks := pemTypes(got.out); tt.blocks != nil && strings.Join(blocks, ",") != strings.Join(tt.blocks, ",") {
				t.Errorf("got blocks %q, want %q", blocks, tt.blocks)
			}
		})
	}
}

func pemTypes(text string) []string {
	var types []string
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		types = append(types, block.Type)
	}
	return types
}

func TestAuthorizeEndsWithTheDecision(t *testing.T) {
	socket := socketPath(t)
	startDaemon(t, socket)
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"allow", []string{"--source", "web"}, 0, "allow: web may reach db"},
		{"allow_by_id", []string{"--source", "spiffe://" + devca.TrustDomain + "/ns/default/dc/x/svc/web"}, 0, "intention: "},
		{"deny", []string{"--source", "other"}, 1, "deny: other may not reach db"},
		{"foreign", []string{"--source", "spiffe://x.consul/ns/default/dc/x/svc/web"}, 1, "foreign_trust_domain"},
		{"malformed_id", []string{"--source", "spiffe://x"}, 1, "invalid_source"},
		{"per_request", []string{"--source", "cart"}, 3, "per_request: whether cart may reach db depends"},
		{"other_namespace", []string{"--source", "default/other/web"}, 1, "default_action"},
		{"no_source", nil, 2, "name both services"},
		{"bad_source", []string{"--source", "a b"}, 2, "is not a service"},
		{"bad_header", []string{"--source", "web", "--header", "x"}, 2, "name:value"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"authorize", "--destination", "db", "--socket", socket}, tt.args...)
			got := runCommand(t, args...)
			if got.code != tt.code || !strings.Contains(got.out+got.err, tt.want) {
				t.Errorf("got %+v, want %d and %q", got, tt.code, tt.want)
			}
			if tt.code == exitError {
				return
			}
			got = runCommand(t, append(args, "--json")...)
			if d := decode[connectd.Decision](t, got); got.code != tt.code || d.Allowed != (tt.code == 0) || d.Reason == "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCommandsAgainstADaemon(t *testing.T) {
	socket := socketPath(t)
	startDaemon(t, socket)
	if got := runCommand(t, "leaf", "web", "--socket", socket); got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"status"}, []string{"state     ok\n", "connectd test", "development authority", "SERVICE", "web", "default   deny"}},
		{[]string{"services"}, []string{"SERVICE", "web      yes    fresh"}},
		{[]string{"policy", "db"}, []string{"Who may reach db (fresh", "r1", "cart", "otherwise deny", "everyone else"}},
		{[]string{"bundle"}, []string{devca.TrustDomain, "ROOT", "yes"}},
		{[]string{"bundle", "--pem"}, []string{"-----BEGIN CERTIFICATE-----\n"}},
		{[]string{"status", "--json"}, []string{`"state": "ok"`, `"problems": []`}},
		{[]string{"services", "--json"}, []string{`"name": "web"`}},
		{[]string{"policy", "db", "--json"}, []string{`"id": "r1"`, `"default_action": "deny"`, `"age_seconds"`}},
		{[]string{"bundle", "--json"}, []string{`"trust_domain": "` + devca.TrustDomain}},
	} {
		t.Run(strings.Join(tt.args, "_"), func(t *testing.T) {
			got := runCommand(t, append(tt.args, "--socket", socket)...)
			if got.code != 0 || got.err != "" {
				t.Errorf("got %+v", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got.out, want) {
					t.Errorf("got %q, want %q", got.out, want)
				}
			}
			if strings.Contains(got.out, "PRIVATE KEY") {
				t.Error("a key is shown")
			}
		})
	}
}
