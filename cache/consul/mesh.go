package consul

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/connectd/connectd/intentions"
)

const meshPath = "/v1/config/mesh/mesh"

// readNormalization reads how the mesh wants requests normalized before they
// are judged (mesh configuration entry, HTTP.Incoming.RequestNormalization).
// Without an entry, or without the right to read it, Consul's defaults hold.
func (s *Source) readNormalization(ctx context.Context) (intentions.Normalization, error) {
	resp, body, err := s.send(ctx, request{path: meshPath, token: s.read.value()})
	if err != nil {
		return intentions.Normalization{}, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return parseNormalization(body)
	case http.StatusNotFound, http.StatusForbidden:
		return intentions.DefaultNormalization(), nil
	}
	return intentions.Normalization{}, statusFailure(resp.StatusCode, body)
}

// parseNormalization turns the entry into the terms of a policy. A word that
// is not known rejects: nobody can say what it lets through.
func parseNormalization(body []byte) (intentions.Normalization, error) {
	n := intentions.DefaultNormalization()
	var entry struct {
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
	if err := json.Unmarshal(body, &entry); err != nil {
		return n, invalid("Consul's mesh entry cannot be read: %v", err)
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
