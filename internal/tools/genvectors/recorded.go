package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// recording is the shape of consul-authorize.json.
type recording struct {
	Variants map[string]struct {
		Allow  bool   `json:"default_allow"`
		Reason string `json:"default_reason"`
		Domain string `json:"trust_domain"`
	} `json:"variants"`
	Scenarios []struct {
		Name       string `json:"name"`
		Variant    string `json:"variant"`
		Intentions []row  `json:"intentions"`
		Cases      []struct {
			Body   string `json:"body"`
			Status int    `json:"status"`
			Resp   string `json:"resp"`
			Label  string `json:"label"`
		} `json:"cases"`
	} `json:"scenarios"`
}

// question is the body of an authorize request.
type question struct{ Target, ClientCertURI string }

// l4Recorded turns the recorded answers of agents into decisions by policies.
func l4Recorded(root string) ([]*builder, error) {
	raw, err := os.ReadFile(filepath.Join(root, vectorsDir, "consul-authorize.json"))
	if err != nil {
		return nil, err
	}
	var rec recording
	if err := json.Unmarshal(raw, &rec); err != nil {
		return nil, err
	}
	var out []*builder
	for _, s := range rec.Scenarios {
		v := rec.Variants[s.Variant]
		f := fallback{"deny", "acl"}
		if v.Allow {
			f.action = "allow"
		}
		if !strings.Contains(v.Reason, "ACL") {
			f.origin = "agent"
		}
		byTarget := map[string]*builder{}
		for _, c := range s.Cases {
			var q question
			if c.Status != 200 || json.Unmarshal([]byte(c.Body), &q) != nil || q.Target == "" || q.Target == "*" {
				continue
			}
			b := byTarget[q.Target]
			if b == nil {
				topic := fmt.Sprintf("l4-recorded-%s-%d", strings.ReplaceAll(s.Name, "/", "-"), len(byTarget)+1)
				b = fromRows(topic, q.Target, v.Domain, f, rowsOf(s.Intentions, q.Target), "recorded")
				byTarget[q.Target] = b
				out = append(out, b)
			}
			if err := b.recorded(q, c.Resp, c.Label); err != nil {
				return nil, err
			}
		}
	}
	return slices.DeleteFunc(out, func(b *builder) bool { return len(b.Cases) == 0 }), nil
}

// rowsOf returns the intentions that the agent looks at for a target.
func rowsOf(all []row, target string) []row {
	var out []row
	for _, r := range all {
		if r.DestinationName == "*" || strings.EqualFold(r.DestinationName, target) {
			out = append(out, r)
		}
	}
	return out
}

// recorded adds a recorded answer. It is an error if the reference would let
// in whom Consul kept out, or keeps out without a known cause.
func (b *builder) recorded(q question, resp, label string) error {
	var answer struct{ Authorized bool }
	if err := json.Unmarshal([]byte(resp), &answer); err != nil {
		return err
	}
	for _, c := range b.Cases {
		if c := c.(l4Case); c.Source.String() == q.ClientCertURI {
			return nil
		}
	}
	comment := "An answer recorded from an agent."
	if label != "" {
		comment = fmt.Sprintf("An answer recorded from an agent, about %s.", strings.ReplaceAll(label, "-", " "))
	}
	b.consul = nil
	a := b.policy.Decide(q.ClientCertURI, nil)
	flags := []string{}
	switch {
	case a.Decision == "allow" && !answer.Authorized:
		return fmt.Errorf("%s: wider than Consul for %s", b.topic, q.ClientCertURI)
	case a.Decision != "allow" && answer.Authorized:
		if a.Reason != "foreign_trust_domain" && a.Reason != "invalid_source" && a.Reason != "unsupported" {
			return fmt.Errorf("%s: narrower than Consul for %s: %s", b.topic, q.ClientCertURI, a.Reason)
		}
		flags = append(flags, stricter)
	}
	b.connect(comment, plain(q.ClientCertURI), flags...)
	return nil
}
