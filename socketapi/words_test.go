package socketapi_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/connectd/connectd/intentions"
)

// TestDocsOpenAPIWords compares the enumerations of the document with the
// words of the code, so that neither has one that the other lacks.
func TestDocsOpenAPIWords(t *testing.T) {
	doc := loadContract(t).doc
	for _, x := range []struct {
		// where is a path through the schemas of the document.
		name, where string
		code        []string
	}{
		{"reasons", "Reason", reasons()},
		{"rule_reasons", "Rule reason", []string{intentions.ReasonUnsupported.String()}},
		{"decisions", "Decision decision", outcomes()},
		{"via", "Decision via", constants(t, "authorize.go", "via")},
		{"store", "StoreState", constants(t, "../cache/persist.go", "Store")},
		{"leaf_errors", "LeafError", constants(t, "../cache/snapshot.go", "LeafError")},
		{"states", "Status state", constants(t, "status.go", "State")},
		{"origins", "DefaultOrigin", constants(t, "../intentions/policy.go", "Origin")},
		{"requires", "Rule requires []", constants(t, "../intentions/policy.go", "Requires")},
		{"header_matches", "HeaderMatch match", constants(t, "../intentions/permission.go", "Match")},
		{"failures", "FailureKind", slices.Concat(constants(t, "../cache/source.go", "Failure"), constants(t, "admission.go", "Complaint"))},
		{"watches", "Problem watch", slices.Concat(constants(t, "../cache/source.go", "Watch"),
			constants(t, "../cache/persist.go", "Watch"), constants(t, "../cache/keeper.go", "watchTrustDomain"),
			constants(t, "status.go", "watchAdmission"))},
		{"schema", "Snapshot schema", constants(t, "wire.go", "schema")},
		{"policy_schema", "PolicySchema", []string{strconv.Itoa(intentions.PolicySchema)}},
	} {
		t.Run(x.name, func(t *testing.T) { sameWords(t, enumeration(t, doc, x.where), x.code) })
	}
	t.Run("codes", func(t *testing.T) {
		sameWords(t, documentedCodes(doc), constants(t, "errors.go", "Code"))
	})
}

func sameWords(t *testing.T, documented, code []string) {
	t.Helper()
	slices.Sort(documented)
	slices.Sort(code)
	if !slices.Equal(documented, code) || len(code) == 0 {
		t.Errorf("the document has %q, the code %q", documented, code)
	}
}

// enumeration returns the words of a schema: its name, then names of members,
// or [] for the items of a list.
func enumeration(t *testing.T, doc *openapi3.T, where string) []string {
	t.Helper()
	path := strings.Fields(where)
	ref := doc.Components.Schemas[path[0]]
	for _, step := range path[1:] {
		if ref == nil {
			break
		}
		if step == "[]" {
			ref = ref.Value.Items
		} else {
			ref = ref.Value.Properties[step]
		}
	}
	if ref == nil {
		t.Fatalf("the document has no schema %s", where)
	}
	return words(ref.Value)
}

func words(s *openapi3.Schema) []string {
	var out []string
	for _, w := range s.Enum {
		out = append(out, fmt.Sprint(w))
	}
	return out
}

// documentedCodes collects the codes of all error answers.
func documentedCodes(doc *openapi3.T) []string {
	found := map[string]bool{}
	for _, r := range doc.Components.Responses {
		body := r.Value.Content.Get("application/json").Schema.Value
		for _, w := range words(body.Properties["error"].Value.Properties["code"].Value) {
			found[w] = true
		}
	}
	return slices.Collect(maps.Keys(found))
}

// reasons lists the words of all reasons; the one behind the last has none.
func reasons() (list []string) {
	defer func() { _ = recover() }()
	for r := intentions.Reason(0); ; r++ {
		list = append(list, r.String())
	}
}

func outcomes() (list []string) {
	defer func() { _ = recover() }()
	for o := intentions.Outcome(0); ; o++ {
		list = append(list, o.String())
	}
}

// constants returns the values of a file's constants whose names begin with a
// prefix and go on with a capital, or are the prefix.
func constants(t *testing.T, file, prefix string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		value, ok := spec.Values[0].(*ast.BasicLit)
		rest, has := strings.CutPrefix(spec.Names[0].Name, prefix)
		if !ok || !has || rest != "" && strings.ToLower(rest[:1]) == rest[:1] {
			return true
		}
		text := value.Value
		if value.Kind == token.STRING {
			text, _ = strconv.Unquote(text)
		}
		out = append(out, text)
		return true
	})
	return out
}
