package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/daemon"
	"github.com/connectd/connectd/intentions"
)

// whatIfAnswer is what a proposal would change, by destination.
type whatIfAnswer struct {
	Changes      bool             `json:"changes"`
	Destinations []*daemon.WhatIf `json:"destinations"`
}

func (g *globals) runWhatIf(cmd *cobra.Command, f *authorizeFlags) error {
	answer, err := g.whatIf(cmd, f)
	if err != nil {
		return err
	}
	if g.json {
		err = printJSON(cmd.OutOrStdout(), answer)
	} else {
		err = printWhatIf(cmd.OutOrStdout(), f, answer)
	}
	if err == nil && answer.Changes {
		err = exitCode(1)
	}
	return err
}

func (g *globals) whatIf(cmd *cobra.Command, f *authorizeFlags) (answer *whatIfAnswer, err error) {
	proposal, err := readProposal(cmd.InOrStdin(), f.whatIf)
	if err != nil {
		return nil, err
	}
	request, err := f.request()
	if err != nil {
		return nil, err
	}
	c, err := g.client(cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	q := whatIfQuestion{client: c, flags: f, proposal: proposal}
	if request != nil {
		q.request = &intentions.Request{Method: request.Method, Path: request.Path, Headers: request.Headers}
		q.request.Host = strings.Join(request.Headers["host"], ",")
	}
	waiting(cmd.ErrOrStderr(), "the policies", func() { answer, err = q.ask(cmd.Context()) })
	return answer, err
}

// maxProposal is more than a proposal may have; the rest is not read.
const maxProposal = 2 << 20

func readProposal(stdin io.Reader, path string) (*daemon.Proposal, error) {
	if path == "-" {
		src, err := io.ReadAll(io.LimitReader(stdin, maxProposal))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return daemon.ParseProposal(proposalName(path), src)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w; --what-if takes a file, or - for standard input", err)
	}
	defer file.Close()
	src, err := io.ReadAll(io.LimitReader(file, maxProposal))
	if err != nil {
		return nil, err
	}
	return daemon.ParseProposal(proposalName(path), src)
}

func proposalName(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// whatIfQuestion is a proposal and all that is known of what to ask.
type whatIfQuestion struct {
	client   *connectd.Client
	flags    *authorizeFlags
	proposal *daemon.Proposal
	request  *intentions.Request
	// known are the services that this user may act for; those with a leaf
	// are here, and can be sources.
	known, local []intentions.Service
}

func (q *whatIfQuestion) ask(ctx context.Context) (*whatIfAnswer, error) {
	list, err := q.client.Services(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range list.Services {
		service := intentions.Service{Partition: s.Service.Partition, Namespace: s.Service.Namespace, Name: s.Service.Name}
		q.known = append(q.known, service)
		if s.Leaf != nil {
			q.local = append(q.local, service)
		}
	}
	destinations, err := q.destinations()
	if err != nil {
		return nil, err
	}
	answer := &whatIfAnswer{}
	for _, d := range destinations {
		one, err := q.askFor(ctx, d)
		if err != nil {
			return nil, err
		}
		answer.Destinations = append(answer.Destinations, one)
		answer.Changes = answer.Changes || len(one.Changes) > 0 || one.Asked != nil && one.Asked.Changes
	}
	return answer, nil
}

// destinations are those that the proposal names, the known services if it
// has an entry for every service, and the one that was asked about.
func (q *whatIfQuestion) destinations() ([]string, error) {
	out, every := q.proposal.Destinations()
	for _, s := range q.known {
		if every && s.InDefaultParts() {
			out = append(out, s.Name)
		}
	}
	if asked := q.askedDestination(); asked != "" {
		out = append(out, asked)
	}
	var unique []string
	for _, name := range out {
		if !slices.ContainsFunc(unique, func(other string) bool { return strings.EqualFold(name, other) }) {
			unique = append(unique, name)
		}
	}
	if len(unique) == 0 {
		return nil, errors.New("the proposal is for every service, and none is known here; name one with --destination")
	}
	return unique, nil
}

// askedDestination is the destination of the flags in its shortest form; what
// is no service is left for the daemon's answer.
func (q *whatIfQuestion) askedDestination() string {
	if s, err := parseSource(q.flags.destination); err == nil {
		return s.String()
	}
	return q.flags.destination
}

func (q *whatIfQuestion) askFor(ctx context.Context, destination string) (*daemon.WhatIf, error) {
	policy, err := q.client.Policy(ctx, destination, connectd.ReadOptions{})
	if err != nil {
		return nil, err
	}
	rows, err := q.client.Intentions(ctx, destination)
	if err != nil {
		return nil, err
	}
	in := daemon.WhatIfInput{
		Destination: policy.Destination, TrustDomain: policy.TrustDomain, Normalization: policy.Normalization,
		Default:    intentions.DefaultAction{Allow: policy.DefaultAction == connectd.Allow, Origin: policy.DefaultOrigin},
		Intentions: rows, Request: q.request,
		Sources: append(reportedSources(ctx, q.client, destination), q.local...),
	}
	if asked := q.askedDestination(); q.flags.source != "" && (asked == "" || strings.EqualFold(asked, destination)) {
		if in.ID, err = idWithin(policy.TrustDomain, q.flags.source); err != nil {
			return nil, err
		}
	}
	return q.proposal.WhatIf(in)
}

// reportedSources are the sources that applications reported as callers of a
// destination. There is nothing that they report to yet.
func reportedSources(context.Context, *connectd.Client, string) []intentions.Service { return nil }

// idWithin expands the name of a service; a SPIFFE ID stays as it is.
func idWithin(trustDomain, source string) (string, error) {
	if strings.Contains(source, "://") {
		return source, nil
	}
	service, err := parseSource(source)
	if err != nil {
		return "", err
	}
	return intentions.ID{TrustDomain: trustDomain, Service: service, Datacenter: anyDatacenter}.String(), nil
}

func printWhatIf(w io.Writer, f *authorizeFlags, answer *whatIfAnswer) error {
	what := "with " + proposalName(f.whatIf)
	if request, _ := f.request(); request != nil {
		what += ", for " + request.Method + " " + request.Path
	}
	for i, d := range answer.Destinations {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s %s:\n\n", oneLine(d.Destination.String()), oneLine(what))
		if err := printChanges(w, d); err != nil {
			return err
		}
		if err := printAsked(w, f.source, d.Asked); err != nil {
			return err
		}
	}
	return nil
}

// printAsked shows what becomes of the source that was asked about.
func printAsked(w io.Writer, source string, x *daemon.WhatIfChange) error {
	if x == nil {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w)
	t.row(source+" now", sideText(x.Now), causeText(x.Now))
	t.row(source+" then", thenText(x), causeText(x.Then))
	return t.flush()
}

func printChanges(w io.Writer, d *daemon.WhatIf) error {
	if len(d.Changes) == 0 {
		_, err := fmt.Fprintf(w, "nothing changes for any of %s\n", plural(d.Sources, "source"))
		return err
	}
	t := newTable(w)
	t.row("SOURCE", "NOW", "THEN")
	for i := range d.Changes {
		c := &d.Changes[i]
		source := c.Source
		if c.AnyOther {
			source = "any other service"
		}
		t.row(source, sideText(c.Now), thenText(c))
	}
	if err := t.flush(); err != nil {
		return err
	}
	verb := "change"
	if len(d.Changes) == 1 {
		verb = "changes"
	}
	_, err := fmt.Fprintf(w, "\n%d of %s %s\n", len(d.Changes), plural(d.Sources, "source"), verb)
	return err
}

// sideText is a decision, with that on the request where it depends on it.
func sideText(v daemon.WhatIfVerdict) string {
	if v.Request == nil {
		return v.Decision
	}
	return v.Decision + " (this one: " + v.Request.Decision + ")"
}

func thenText(c *daemon.WhatIfChange) string {
	if c.OtherPermissions {
		return c.Then.Decision + " (other permissions)"
	}
	return sideText(c.Then)
}

// causeText is the reason of what decides in the end, and its rule.
func causeText(v daemon.WhatIfVerdict) string {
	reason := v.Reason
	if v.Request != nil {
		reason = v.Request.Reason
	}
	if v.Rule != "" {
		reason += ", rule " + v.Rule
	}
	return reason
}
