package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// admissionAnswer is what the daemon says of a process.
type admissionAnswer struct {
	Refusal  string `json:"refusal"`
	Route    string `json:"route"`
	Admitted bool   `json:"admitted"`
	Service  string `json:"service"`
	Grant    string `json:"grant"`
	Peer     struct {
		PID       int    `json:"pid"`
		UID       uint32 `json:"uid"`
		GID       uint32 `json:"gid"`
		Pinned    bool   `json:"pinned"`
		Cgroup    string `json:"cgroup"`
		Unit      string `json:"unit"`
		Container string `json:"container"`
	} `json:"peer"`
	Blocks []struct {
		Service   string `json:"service"`
		Block     int    `json:"block"`
		Grants    bool   `json:"grants"`
		Selectors []struct {
			Want    string `json:"want"`
			Got     string `json:"got"`
			Matches bool   `json:"matches"`
		} `json:"selectors"`
	} `json:"blocks"`
}

func (g *globals) explainAdmission(cmd *cobra.Command, file string, q url.Values) error {
	socket, err := g.adminSocket(file)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := askAdmin(cmd.Context(), socket, http.MethodGet, "/v1/admission/explain?"+q.Encode(), &raw); err != nil {
		return err
	}
	if g.json {
		return printJSON(cmd.OutOrStdout(), raw)
	}
	var a admissionAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return err
	}
	return printAdmission(cmd.OutOrStdout(), &a)
}

// shownBlocks bounds the list: those after it are further away.
const shownBlocks = 5

func printAdmission(w io.Writer, a *admissionAnswer) error {
	verdict := "is refused"
	if a.Admitted {
		verdict = "is admitted"
	}
	service := "any service"
	if a.Service != "" {
		service = "service " + a.Service
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s for %s\n", peerText(a), verdict, a.Grant, service)
	if len(a.Blocks) == 0 {
		b.WriteString("no allow block is for it\n")
	}
	for i, block := range a.Blocks {
		if i == shownBlocks {
			fmt.Fprintf(&b, "and %d more blocks that are no closer\n", len(a.Blocks)-i)
			break
		}
		fmt.Fprintf(&b, "service %q, allow block %d:\n", block.Service, block.Block)
		for _, s := range block.Selectors {
			if s.Matches {
				fmt.Fprintf(&b, "  matches   %s\n", s.Want)
			} else {
				fmt.Fprintf(&b, "  differs   wants %s; the process has %s\n", s.Want, s.Got)
			}
		}
		if !block.Grants {
			fmt.Fprintf(&b, "  differs   does not give the grant %s\n", a.Grant)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func peerText(a *admissionAnswer) string {
	text := fmt.Sprintf("uid %d, gid %d", a.Peer.UID, a.Peer.GID)
	if a.Peer.PID != 0 {
		text = fmt.Sprintf("process %d (%s)", a.Peer.PID, text)
	}
	switch {
	case a.Peer.Container != "":
		text += " in container " + a.Peer.Container
	case a.Peer.Unit != "":
		text += " of unit " + a.Peer.Unit
	}
	return text
}
