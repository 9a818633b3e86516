package connectd

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/intentions"
)

func sourceID(name string) string {
	return "spiffe://" + devca.TrustDomain + "/ns/default/dc/dc1/svc/" + name
}

func TestAuthorize(t *testing.T) {
	c, _ := startDaemon(t)
	for _, tt := range []struct {
		name, source, decision, reason, rule string
	}{
		{"allowed", sourceID("web"), Allow, "intention", "r2"},
		{"by_request", sourceID("cart"), PerRequest, "request_required", "r1"},
		{"default", sourceID("other"), Deny, "default_action", ""},
		{"foreign", "spiffe://elsewhere.consul/ns/default/dc/dc1/svc/web", Deny, "foreign_trust_domain", ""},
		{"malformed", "web", Deny, "invalid_source", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := c.Authorize(t.Context(), Question{Destination: "db", Source: tt.source})
			if err != nil {
				t.Fatal(err)
			}
			rule := ""
			if d.Matched != nil {
				rule = d.Matched.Rule
			}
			if d.Decision != tt.decision || d.Reason != tt.reason || rule != tt.rule || d.Allowed != (tt.decision == Allow) {
				t.Errorf("got %+v", d)
			}
		})
	}
}

func TestAuthorizeWithoutAnAnswerDenies(t *testing.T) {
	daemon, _ := startDaemon(t)
	away := clientOf(t, socketPath(t))
	for _, tt := range []struct {
		name         string
		client       *Client
		q            Question
		code, reason string
	}{
		{"unreachable", away, Question{Destination: "db", Source: sourceID("web")}, CodeUnreachable, ReasonUnreachable},
		{"no_destination", daemon, Question{Source: sourceID("web")}, CodeBadRequest, ReasonUnreachable},
		{"no_source", daemon, Question{Destination: "db"}, CodeBadRequest, ReasonUnreachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := tt.client.Authorize(t.Context(), tt.q)
			if e := asError(t, err); e.Code != tt.code {
				t.Errorf("got %+v, want %s", e, tt.code)
			}
			if want := (Decision{Decision: Deny, Reason: tt.reason}); d != want {
				t.Errorf("got %+v, want %+v", d, want)
			}
		})
	}
}

func TestAuthorizeBatchKeepsOrder(t *testing.T) {
	c, _ := startDaemon(t)
	answers, err := c.AuthorizeBatch(t.Context(), []Question{
		{Destination: "db", Source: sourceID("web")},
		{Destination: "db"},
		{Destination: "db", Source: sourceID("cart"), Request: &Request{Method: "GET", Path: "/v2/"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) != 3 || !answers[0].Decision.Allowed || answers[0].Err != nil || answers[2].Decision.Allowed {
		t.Errorf("got %+v", answers)
	}
	if e := asError(t, answers[1].Err); e.Code != CodeBadRequest || answers[1].Decision.Decision != Deny {
		t.Errorf("got %+v", answers[1])
	}
	none, err := c.AuthorizeBatch(t.Context(), nil)
	if err != nil || len(none) != 0 {
		t.Errorf("got %+v and %v, want nothing", none, err)
	}
}

func TestAuthorizeBatchRefusals(t *testing.T) {
	c, _ := startDaemon(t)
	mixed := []Question{{Destination: "db", Source: "x"}, {Destination: "default/other/db", Source: "x"}}
	_, err := c.AuthorizeBatch(t.Context(), mixed)
	if e := asError(t, err); e.Code != CodeBadRequest {
		t.Errorf("mixed: got %+v", e)
	}
	many := make([]Question, 257)
	for i := range many {
		many[i] = Question{Destination: "db", Source: "x"}
	}
	_, err = c.AuthorizeBatch(t.Context(), many)
	if e := asError(t, err); e.Code != CodeTooLarge {
		t.Errorf("many: got %+v", e)
	}
}

func TestContradictoryDecisionsAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, body string }{
		{"empty", `{}`},
		{"null", `null`},
		{"deny_allowed", `{"decision":"deny","allowed":true}`},
		{"allow_not_allowed", `{"decision":"allow","allowed":false}`},
		{"per_request_allowed", `{"decision":"per_request","allowed":true}`},
		{"unknown", `{"decision":"perhaps","allowed":false}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := serveRaw(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(tt.body), tt.body))
			d, err := c.Authorize(t.Context(), Question{Destination: "db", Source: "x"})
			if e := asError(t, err); e.Code != CodeInvalidAnswer || d.Allowed {
				t.Errorf("got %+v and %+v", d, e)
			}
		})
		t.Run("batch_"+tt.name, func(t *testing.T) {
			body := `{"decisions":[` + tt.body + `]}`
			c := serveRaw(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
			answers, err := c.AuthorizeBatch(t.Context(), []Question{{Destination: "db", Source: "x"}})
			if err != nil || answers[0].Decision.Allowed || answers[0].Err == nil {
				t.Errorf("got %+v and %v", answers, err)
			}
		})
	}
}

func TestAuthorizeExplains(t *testing.T) {
	c, _ := startDaemon(t)
	q := Question{
		Destination: "db", Source: sourceID("web"), Explain: true,
		Request: &Request{Method: "GET", Path: "/v2/x%2Fy"},
	}
	passed := ConsideredRule{
		Rule: "r1", Precedence: 9, Source: "default/cart", Destination: "default/db", Why: `the source is "web", not "cart"`,
	}
	judged := ConsideredRule{
		Rule: "r1", Precedence: 9, Source: "default/cart", Destination: "default/db", Matched: true,
		Permissions: []ConsideredPermission{{Action: "allow", Why: `path "/v2/x%2Fy" does not start with "/v1/"`}},
	}
	decided := ConsideredRule{Rule: "r2", Precedence: 9, Source: "default/web", Destination: "default/db", Matched: true}
	want := &Explanation{
		TrustDomain: devca.TrustDomain, DefaultAction: "deny", DefaultOrigin: "config", Considered: []ConsideredRule{passed, decided},
	}
	d, err := c.Authorize(t.Context(), q)
	if diff := cmp.Diff(want, d.Explanation); err != nil || diff != "" {
		t.Errorf("got %v, -want +got:\n%s", err, diff)
	}
	q.Source = sourceID("cart")
	want.Considered, want.PathReadings = []ConsideredRule{judged}, []string{"/v2/x%2Fy", "/v2/x/y"}
	d, err = c.Authorize(t.Context(), q)
	if diff := cmp.Diff(want, d.Explanation); err != nil || diff != "" {
		t.Errorf("got %v, -want +got:\n%s", err, diff)
	}
	q.Explain = false
	if d, err = c.Authorize(t.Context(), q); err != nil || d.Explanation != nil {
		t.Errorf("got %+v and %v, want no explanation", d.Explanation, err)
	}
}

func TestAuthorizeBatchExplainsAllOrNone(t *testing.T) {
	c, _ := startDaemon(t)
	for _, explain := range []bool{false, true} {
		answers, err := c.AuthorizeBatch(t.Context(), []Question{
			{Destination: "db", Source: sourceID("web")}, {Destination: "db", Source: sourceID("cart"), Explain: explain},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range answers {
			if (a.Decision.Explanation != nil) != explain {
				t.Errorf("answer %d: got %+v, asked for: %t", i, a.Decision.Explanation, explain)
			}
		}
	}
}

func TestIntentions(t *testing.T) {
	c, _ := startDaemon(t)
	rows, err := c.Intentions(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	list, err := intentions.ParseIntentions(rows)
	if err != nil || len(list) != 2 || list[1].SourceName != "web" || list[1].DestinationName != "db" {
		t.Errorf("got %+v and %v", list, err)
	}
	if rows, err = c.Intentions(t.Context(), "nobody"); err != nil || string(rows) != "null" {
		t.Errorf("got %s and %v, want null", rows, err)
	}
	for name, code := range map[string]string{"a b": CodeBadRequest, "default/other/db": CodeBadRequest} {
		if _, err := c.Intentions(t.Context(), name); asError(t, err).Code != code {
			t.Errorf("%s: got %v, want %s", name, err, code)
		}
	}
	other := serveRaw(t, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"other\": null}")
	if _, err := other.Intentions(t.Context(), "db"); asError(t, err).Code != CodeInvalidAnswer {
		t.Errorf("got %v", err)
	}
}
