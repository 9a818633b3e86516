package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/intentions"
)

func newPolicy(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "policy SERVICE",
		Short: "Show who may reach a service",
		Long: `Show the intentions of a service as a destination, in deciding order: the first
rule whose source matches decides, and the default action if none does.`,
		Example:           "  connectd policy db\n  connectd policy db --json",
		Args:              oneService,
		ValidArgsFunction: g.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := g.readPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(cmd.OutOrStdout(), p)
			}
			return printPolicy(cmd.OutOrStdout(), p)
		},
	}
}

func (g *globals) readPolicy(cmd *cobra.Command, service string) (policy *connectd.PolicyAnswer, err error) {
	c, err := g.client(cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	waiting(cmd.ErrOrStderr(), "the first policy of "+service, func() {
		policy, err = c.Policy(cmd.Context(), service, connectd.ReadOptions{})
	})
	return policy, err
}

func printPolicy(w io.Writer, p *connectd.PolicyAnswer) error {
	fmt.Fprintf(w, "Who may reach %s (%s); the first rule that matches decides:\n\n",
		oneLine(p.Destination.String()), confirmed(p.Freshness, p.AgeSeconds))
	t := newTable(w)
	t.row("RULE", "PRECEDENCE", "SOURCE", "ACTION")
	for _, raw := range p.Rules {
		var r intentions.Rule
		if err := json.Unmarshal(raw, &r); err != nil {
			t.row("?", "?", "?", "a rule that this program cannot read; use one of the daemon's release")
			continue
		}
		printRule(t, &r, p.DefaultAction)
	}
	t.row("default", "-", "everyone else", p.DefaultAction+" ("+originText(p.DefaultOrigin)+")")
	return t.flush()
}

func printRule(t table, r *intentions.Rule, fallback string) {
	first := []string{r.ID, strconv.Itoa(r.Precedence), sourceText(r.Source)}
	if len(r.Permissions) == 0 {
		t.row(append(first, actionText(r))...)
		return
	}
	t.row(append(first, "judges each request; the first that matches decides:")...)
	for i := range r.Permissions {
		t.row("", "", "", fmt.Sprintf("  %d. %s", i+1, permissionText(&r.Permissions[i])))
	}
	t.row("", "", "", "  otherwise "+fallback+" (the default action)")
}

func actionText(r *intentions.Rule) string {
	if r.Reason != "" {
		return r.Action + " (" + r.Reason + ": this intention demands something that connectd cannot judge)"
	}
	return r.Action
}

// sourceText names a source, with the wildcards in words.
func sourceText(s intentions.Service) string {
	name := s.Name
	if name == intentions.Wildcard {
		name = "any service"
	}
	if s.Namespace == intentions.Wildcard {
		name += " of any namespace"
	} else if s.Namespace != intentions.DefaultPart {
		name += " of namespace " + s.Namespace
	}
	if s.Partition != intentions.DefaultPart {
		name += " of partition " + s.Partition
	}
	return name
}

// permissionText puts a permission in words: what it does, and to which
// requests.
func permissionText(p *intentions.Permission) string {
	var what []string
	if len(p.Methods) > 0 {
		what = append(what, "method "+strings.Join(p.Methods, " or "))
	}
	if p.Path != nil {
		what = append(what, "path "+matchText(p.Path.Match, p.Path.Value))
	}
	for _, h := range p.Headers {
		what = append(what, headerText(h))
	}
	if len(what) == 0 {
		return p.Action + " every request"
	}
	return p.Action + " " + strings.Join(what, ", and ")
}

func headerText(h intentions.HeaderMatch) string {
	text := "header " + h.Name + " " + matchText(h.Match, h.Value)
	if h.IgnoreCase {
		text += " in any case"
	}
	if h.Invert {
		return "not (" + text + ")"
	}
	return text
}

func matchText(match, value string) string {
	value = strconv.Quote(value)
	switch match {
	case intentions.MatchExact:
		return "is " + value
	case intentions.MatchPrefix:
		return "starts with " + value
	case intentions.MatchSuffix:
		return "ends with " + value
	case intentions.MatchContains:
		return "contains " + value
	case intentions.MatchRegex:
		return "matches the expression " + value
	case intentions.MatchPresent:
		return "is present"
	}
	return match + " " + value
}
