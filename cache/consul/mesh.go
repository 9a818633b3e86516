package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/connectd/connectd/intentions"
)

const meshPath = "/v1/config/mesh/mesh"

// readNormalization reads how the mesh wants requests normalized before they
// are judged (mesh configuration entry, HTTP.Incoming.RequestNormalization).
// Without an entry, or without the right to read it, Consul's defaults hold.
// Nothing else may bring them back, because they can be laxer than the entry:
// neither a page that somebody else answers with nor a token that is gone.
func (s *Source) readNormalization(ctx context.Context) (intentions.Normalization, error) {
	resp, body, err := s.send(ctx, request{path: meshPath, token: s.read.value()})
	if err != nil {
		return intentions.Normalization{}, err
	}
	absent := resp.StatusCode == http.StatusNotFound && bytes.Contains(body, []byte(noConfigEntry))
	refused := resp.StatusCode == http.StatusForbidden && !bytes.Contains(body, []byte(unknownToken))
	switch {
	case resp.StatusCode == http.StatusOK:
		return parseNormalization(body)
	case absent, refused:
		return intentions.DefaultNormalization(), nil
	}
	return intentions.Normalization{}, statusFailure(resp.StatusCode, redact(body, s.read.value()))
}

// noConfigEntry is how Consul says that there is no such entry.
const noConfigEntry = "Config entry not found"

// parseNormalization turns the entry into the terms of a policy. A word that
// is not known rejects: nobody can say what it lets through.
func parseNormalization(body []byte) (intentions.Normalization, error) {
	n := intentions.DefaultNormalization()
	var entry struct {
		Kind string
		HTTP struct {
			Incoming struct {
				RequestNormalization struct {
					InsecureDisablePathNormalization bool
					MergeSlashes                     bool
					PathWithEscapedSlashesAction     string
					HeadersWithUnderscoresAction     string
				}
			}
		}
	}
	if err := json.Unmarshal(body, &entry); err != nil || entry.Kind != "mesh" || !isJSON(body) {
		return n, invalid("Consul's mesh entry cannot be read")
	}
	in := entry.HTTP.Incoming.RequestNormalization
	n.Path, n.MergeSlashes = !in.InsecureDisablePathNormalization, in.MergeSlashes
	switch in.PathWithEscapedSlashesAction {
	case "", "IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED":
	case "UNESCAPE_AND_FORWARD", "UNESCAPE_AND_REDIRECT":
		n.EscapedSlashes = intentions.SlashesUnescape
	default:
		n.EscapedSlashes = intentions.SlashesReject
	}
	switch in.HeadersWithUnderscoresAction {
	case "", "ALLOW":
	case "DROP_HEADER":
		n.Underscores = intentions.UnderscoresDrop
	default:
		n.Underscores = intentions.UnderscoresReject
	}
	return n, nil
}
