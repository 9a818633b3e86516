package main

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// opaModule decides what the table decides at L4. The rule by name goes before
// the one for all names, as precedence has it.
const opaModule = `package connectd

parts := split(input.source, "/")

action := a if {
	a := data.names[parts[8]]
} else := data.names["*"]

default allow := false

allow if {
	count(parts) == 9
	parts[0] == "spiffe:"
	parts[1] == ""
	parts[2] == data.trust_domain
	parts[3] == "ns"
	parts[4] == "default"
	parts[5] == "dc"
	parts[7] == "svc"
	action == "allow"
}

default allow_name := false

allow_name if {
	# A comparison in the same expression costs more with every name.
	found := data.names[input.name]
	found == "allow"
}
`

// opaRows measures Open Policy Agent at its best: the query prepared, the input
// parsed, the data held in the form that evaluation reads.
func (f *field) opaRows(ctx context.Context) ([]*row, error) {
	names := map[string]any{}
	for name, allow := range f.allowed {
		names[name] = map[bool]string{true: "allow", false: "deny"}[allow]
	}
	store := inmem.NewFromObjectWithOpts(map[string]any{"names": names, "trust_domain": benchTrustDomain},
		inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	var rows []*row
	for _, q := range []struct {
		name, rule, key string
		asked           []string
	}{
		{"Open Policy Agent, %d intentions", "allow", "source", f.uris},
		{"Open Policy Agent, %d intentions, given the bare name", "allow_name", "name", f.asked},
	} {
		query, err := rego.New(rego.Query("data.connectd."+q.rule), rego.Module("connectd.rego", opaModule), rego.Store(store)).PrepareForEval(ctx)
		if err != nil {
			return nil, fmt.Errorf("prepare Open Policy Agent: %w", err)
		}
		p := &opaPeer{query: query, inputs: make([]ast.Value, len(q.asked))}
		for i, text := range q.asked {
			p.inputs[i] = ast.NewObject(ast.Item(ast.StringTerm(q.key), ast.StringTerm(text)))
		}
		for i, name := range f.asked {
			if got := p.allows(ctx, i); got != f.allowed[name] {
				return nil, fmt.Errorf("ask Open Policy Agent about %s: got %v", name, got)
			}
		}
		rows = append(rows, &row{
			name:   fmt.Sprintf(q.name, len(f.asked)),
			decide: func(count int) int { return p.decide(ctx, count) },
		})
	}
	return rows, nil
}

type opaPeer struct {
	query  rego.PreparedEvalQuery
	inputs []ast.Value
	at     int
}

func (p *opaPeer) allows(ctx context.Context, i int) bool {
	set, err := p.query.Eval(ctx, rego.EvalParsedInput(p.inputs[i]))
	return err == nil && set.Allowed()
}

func (p *opaPeer) decide(ctx context.Context, count int) int {
	allowed := 0
	for range count {
		if p.allows(ctx, p.at) {
			allowed++
		}
		if p.at++; p.at == len(p.inputs) {
			p.at = 0
		}
	}
	return allowed
}
