package main

import (
	"encoding/json"
	"fmt"

	"github.com/connectd/connectd/intentions"
)

// manyPermissions is how many permissions the intention has whose requests are
// judged.
const manyPermissions = 10

const requestSource = "spiffe://" + benchTrustDomain + "/ns/default/dc/dc1/svc/web"

// judged is a request and the permission that decides on it, 0 for none.
type judged struct {
	name       string
	table      *intentions.Table
	request    intentions.Request
	permission int32
	targets    []target
}

func requestRows() ([]*row, error) {
	plain := requestTable(`{"Action":"allow","HTTP":{"PathPrefix":"/v1/part-%d/","Methods":["GET","POST"],"Header":[{"Name":"x-team","Exact":"team-%[1]d"}]}}`)
	regex := requestTable(`{"Action":"allow","HTTP":{"PathRegex":"/v1/part-%d/[a-z0-9/-]+","Methods":["GET","POST"]}}`)
	var rows []*row
	for _, j := range []judged{
		{"request, first of 10 permissions", plain, asks("/v1/part-1/rows/17", "team-1"), 1, requestTargets},
		{"request, last of 10 permissions", plain, asks("/v1/part-10/rows/17", "team-10"), 10, requestTargets},
		{"request, none of 10 permissions", plain, asks("/v1/other/rows/17", "team-1"), 0, requestTargets},
		{"request, last of 10, path with // (judged twice)", plain, asks("/v1/part-10//rows/17", "team-10"), 10, nil},
		{"request, last of 10 regex permissions", regex, asks("/v1/part-10/rows/17", "team-10"), 10, nil},
	} {
		if d := j.table.DecideURI(requestSource, &j.request); d.Permission != j.permission || d.Allowed() != (j.permission > 0) {
			return nil, fmt.Errorf("%s: got %s by %s, permission %d", j.name, d.Outcome, d.Reason, d.Permission)
		}
		rows = append(rows, &row{name: j.name, decide: j.decide, targets: j.targets})
	}
	return rows, nil
}

// requestTable compiles one intention with permissions in Consul's form.
func requestTable(format string) *intentions.Table {
	x := intentions.Intention{SourceName: "web", DestinationName: "db", Precedence: 9}
	for i := range manyPermissions {
		x.Permissions = append(x.Permissions, json.RawMessage(fmt.Sprintf(format, i+1)))
	}
	return compile([]intentions.Intention{x})
}

// asks builds a request with the headers that requests usually have.
func asks(path, team string) intentions.Request {
	return intentions.Request{
		Method: "GET", Path: path, Host: "db.service.consul",
		Headers: map[string][]string{
			"Accept": {"application/json"}, "User-Agent": {"bench/1"}, "Accept-Encoding": {"gzip"}, "X-Team": {team},
		},
	}
}

func (j *judged) decide(count int) int {
	allowed := 0
	for range count {
		if j.table.DecideURI(requestSource, &j.request).Allowed() {
			allowed++
		}
	}
	return allowed
}
