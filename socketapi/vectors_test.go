package socketapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// vectorFile is the shape of consul-authorize.json.
type vectorFile struct {
	Count    int
	Variants map[string]struct {
		DefaultAllow  bool   `json:"default_allow"`
		DefaultReason string `json:"default_reason"`
		TrustDomain   string `json:"trust_domain"`
	}
	Scenarios []vectorScenario
}

type vectorScenario struct {
	Name       string
	Variant    string
	Intentions []json.RawMessage
	Cases      []vectorCase
}

type vectorCase struct {
	ID     string
	Body   string
	Status int
	Resp   string
	Label  string
	Exact  *bool
	Token  string
}

// worldSource is an upstream that holds still: the intentions of one scenario.
type worldSource struct {
	bundle   *cache.Bundle
	fallback intentions.DefaultAction
	rows     []json.RawMessage
}

// Run implements cache.Source.
func (s *worldSource) Run(ctx context.Context, feed cache.Feed) error {
	u := cache.Update{Bundle: s.bundle, Default: &s.fallback}
	if err := feed.Publish(ctx, u); err != nil {
		return nil
	}
	for {
		wants, changed := feed.Wanted()
		rows := map[intentions.Service]json.RawMessage{}
		for _, w := range wants {
			rows[w.Service], _ = s.LiveIntentions(ctx, w.Service)
		}
		if feed.Publish(ctx, cache.Update{Intentions: rows}) != nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// LiveIntentions gives what Consul's match route would: the rows of the name,
// whatever its case, and those of every destination.
func (s *worldSource) LiveIntentions(_ context.Context, d intentions.Service) (json.RawMessage, error) {
	var rows []json.RawMessage
	for _, raw := range s.rows {
		var x struct{ DestinationName string }
		if err := json.Unmarshal(raw, &x); err != nil {
			return nil, err
		}
		if x.DestinationName == intentions.Wildcard || strings.EqualFold(x.DestinationName, d.Name) {
			rows = append(rows, raw)
		}
	}
	return json.Marshal(rows)
}

// Pass implements Upstream.
func (s *worldSource) Pass(context.Context, string, url.Values) (int, http.Header, []byte, error) {
	return http.StatusNotFound, nil, nil, nil
}

type admitAll struct{}

func (admitAll) Admit(Peer, Grant, intentions.Service) bool { return true }

// TestVectorsConsulAuthorize replays every recorded answer of real agents on
// the compatible route.
func TestVectorsConsulAuthorize(t *testing.T) {
	raw, err := os.ReadFile("../clients/testvectors/consul-authorize.json")
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	replayed, aboutTokens := 0, 0
	for _, scenario := range file.Scenarios {
		variant := file.Variants[scenario.Variant]
		fallback := intentions.DefaultAction{Allow: variant.DefaultAllow, Origin: intentions.OriginACL}
		if variant.DefaultReason == "Default intention policy" {
			fallback.Origin = intentions.OriginAgent
		}
		handler := serveWorld(t, &worldSource{
			bundle: testBundle(t, variant.TrustDomain), fallback: fallback, rows: scenario.Intentions,
		})
		for _, c := range scenario.Cases {
			if c.Status == http.StatusForbidden {
				aboutTokens++
				continue
			}
			replayed++
			checkVector(t, handler, scenario.Name, c, uint32(replayed))
		}
	}
	if replayed+aboutTokens != file.Count || aboutTokens != 5 {
		t.Errorf("replayed %d and left %d about tokens of %d", replayed, aboutTokens, file.Count)
	}
	t.Logf("%d recorded answers reproduced, %d about Consul tokens do not apply", replayed, aboutTokens)
}

// serveWorld runs a cache over a source until the test ends.
func serveWorld(t *testing.T, s *worldSource) http.Handler {
	t.Helper()
	snapshots, err := cache.New(cache.Config{Source: s})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- snapshots.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return New(Config{Cache: snapshots, Admission: admitAll{}, Upstream: s}).Handler()
}

// checkVector asks as a user of its own, so that the limit on new names is not
// met.
func checkVector(t *testing.T, handler http.Handler, scenario string, c vectorCase, uid uint32) {
	t.Helper()
	conn := &connection{peer: Peer{UID: uid}}
	req := httptest.NewRequest(http.MethodPost, "/v1/agent/connect/authorize", strings.NewReader(c.Body))
	req = req.WithContext(context.WithValue(req.Context(), connectionKey{}, conn))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, req)
	body := bytes.TrimSpace(w.Body.Bytes())
	if w.Code != c.Status {
		t.Errorf("%s %s %q: got status %d (%s), want %d (%s)", scenario, c.ID, c.Label, w.Code, body, c.Status, c.Resp)
		return
	}
	if (c.Exact == nil || *c.Exact) && string(body) != strings.TrimSpace(c.Resp) {
		t.Errorf("%s %s %q: got %s, want %s", scenario, c.ID, c.Label, body, c.Resp)
	}
}
