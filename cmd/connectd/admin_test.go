package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAdministratorCommands(t *testing.T) {
	socket, asked := startAnswering(t, map[string]string{
		"/v1/reload":            `{"added":["service web: user root (0) has leaf"],"removed":[],"restart":["consul"]}`,
		"/v1/admission/rights":  `{"rights":["service old: user 1 has leaf"]}`,
		"/v1/admission/explain": `{"admitted":false,"grant":"leaf","service":"web","peer":{"pid":7,"uid":1,"gid":2,"groups":[],"pinned":true,"unit":"a.service"},"blocks":[{"service":"web","block":1,"grants":false,"selectors":[{"want":"user 0","got":"uid 1","matches":false},{"want":"unit a.service","got":"unit a.service","matches":true}]}]}`,
	})
	file := filepath.Join(t.TempDir(), "c.hcl")
	text := "consul { address = \"http://127.0.0.1:8500\" }\nadmin { path = \"" + socket + "\" }\n" +
		"service \"web\" {\n allow {\n user = \"0\"\n grants = [\"leaf\"]\n }\n}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		args  []string
		want  []string
		asked string
	}{
		{"reload", []string{"reload"}, []string{"+ service web: user root (0) has leaf\n", "needs a restart: consul"}, "POST /v1/reload "},
		{"reload_json", []string{"reload", "--json"}, []string{`"restart"`}, "POST /v1/reload "},
		{"diff", []string{"check", "--diff"}, []string{"- service old: user 1 has leaf\n+ service web: user 0 has leaf\n"}, "GET /v1/admission/rights "},
		{"diff_json", []string{"check", "--diff", "--json"}, []string{`"removed"`}, "GET /v1/admission/rights "},
		{"refusal", []string{"admission", "explain", "1f2e"}, []string{"process 7 (uid 1, gid 2) of unit a.service is refused: leaf for service web",
			"differs   wants user 0; the process has uid 1", "matches   unit a.service", "does not give the grant leaf"}, "GET /v1/admission/explain?refusal=1f2e "},
		{"pid", []string{"admission", "explain", "--pid", "7", "--service", "web"}, nil, "GET /v1/admission/explain?pid=7&service=web "},
		{"user", []string{"admission", "explain", "--user", "root", "--service", "web", "--grant", "status", "--json"}, []string{`"admitted"`}, "GET /v1/admission/explain?grant=status&service=web&user=root "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked()
			got := runCommand(t, append(tt.args, "--config", file)...)
			for _, w := range tt.want {
				if got.code != 0 || !strings.Contains(got.out+got.err, w) {
					t.Errorf("got %+v, want %q", got, w)
				}
			}
			if list := asked(); len(list) != 1 || list[0] != tt.asked {
				t.Errorf("asked %q, want %q", list, tt.asked)
			}
		})
	}
	if got := runCommand(t, "admission", "explain", "--user", "x", "--config", file); got.code != 2 || !strings.Contains(got.err, "--user with --service") {
		t.Errorf("got %+v", got)
	}
	if got := runCommand(t, "reload", "--socket", socketPath(t)); got.code != 2 || !strings.Contains(got.err, "is it running?") {
		t.Errorf("got %+v", got)
	}
}
