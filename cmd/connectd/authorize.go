package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/intentions"
)

// authorizeFlags are a question.
type authorizeFlags struct {
	source, destination string
	method, path        string
	headers             []string
	whatIf              string
	verbose             bool
}

func newAuthorize(g *globals) *cobra.Command {
	var f authorizeFlags
	cmd := &cobra.Command{
		Use:   "authorize --source SERVICE --destination SERVICE | --what-if FILE",
		Short: "Decide whether one service may reach another, and explain",
		Long: `Decide whether one service may reach another, as the daemon would, and explain.
The source is a service or its SPIFFE ID. With --method, --path or --header the
request is judged too. A destination that is not of this host is read from
upstream for this question. The exit code is 0 for allow, 1 for deny, 3 for
per_request (it depends on the request) and 2 for an error.

With --what-if it shows instead which decisions a service-intentions entry
would change if it were written; nothing is written. The exit code is 0 if
nothing changes, 1 if something does and 2 for an error.`,
		Example: `  connectd authorize --source web --destination db
  connectd authorize --source web --destination db --method GET --path /v1/users --header x-tenant:a
  connectd authorize --what-if proposed.hcl`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.whatIf != "" {
				return g.runWhatIf(cmd, &f)
			}
			return g.runAuthorize(cmd, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", "", "the calling service: its name, partition/namespace/name or SPIFFE ID")
	flags.StringVar(&f.destination, "destination", "", "the called service: its name or partition/namespace/name")
	flags.StringVar(&f.method, "method", "", "method of the request (GET if only the path or a header is given)")
	flags.StringVar(&f.path, "path", "", "path of the request (/ if only the method or a header is given)")
	flags.StringArrayVar(&f.headers, "header", nil, "header of the request as name:value; may be repeated")
	flags.StringVar(&f.whatIf, "what-if", "", "file with a service-intentions entry, HCL or JSON, or - for standard input: what would it change?")
	flags.BoolVar(&f.verbose, "verbose", false, "list all rules that were passed over")
	return cmd
}

func (g *globals) runAuthorize(cmd *cobra.Command, f *authorizeFlags) error {
	d, err := g.authorize(cmd, f)
	if err != nil {
		return err
	}
	if g.json {
		err = printJSON(cmd.OutOrStdout(), d)
	} else {
		err = printDecision(cmd.OutOrStdout(), f, d)
	}
	if err != nil {
		return err
	}
	return decisionCode(d.Decision)
}

// decisionCode lets scripts branch on a decision.
func decisionCode(decision string) error {
	switch decision {
	case connectd.Allow:
		return nil
	case connectd.PerRequest:
		return exitCode(3)
	}
	return exitCode(1)
}

func (g *globals) authorize(cmd *cobra.Command, f *authorizeFlags) (*connectd.Decision, error) {
	if f.source == "" || f.destination == "" {
		return nil, errors.New("name both services: connectd authorize --source web --destination db")
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
	var d connectd.Decision
	waiting(cmd.ErrOrStderr(), "the policy of "+f.destination, func() {
		var source string
		if source, err = spiffeID(cmd.Context(), c, f.source); err == nil {
			d, err = c.Authorize(cmd.Context(), connectd.Question{
				Destination: f.destination, Source: source, Request: request, Live: true, Explain: true,
			})
		}
	})
	return &d, err
}

// request is nil if nothing of a request was given.
func (f *authorizeFlags) request() (*connectd.Request, error) {
	if f.method == "" && f.path == "" && len(f.headers) == 0 {
		return nil, nil
	}
	r := &connectd.Request{Method: "GET", Path: "/", Headers: map[string][]string{}}
	if f.method != "" {
		r.Method = f.method
	}
	if f.path != "" {
		r.Path = f.path
	}
	for _, h := range f.headers {
		name, value, found := strings.Cut(h, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if !found || name == "" {
			return nil, fmt.Errorf("header %q is not of the form name:value", h)
		}
		r.Headers[name] = append(r.Headers[name], strings.TrimSpace(value))
	}
	return r, nil
}

// spiffeID expands the name of a service with the daemon's trust domain.
func spiffeID(ctx context.Context, c *connectd.Client, source string) (string, error) {
	if strings.Contains(source, "://") {
		return source, nil
	}
	service, err := parseSource(source)
	if err != nil {
		return "", err
	}
	bundle, err := c.Bundle(ctx, connectd.ReadOptions{})
	if err != nil {
		return "", err
	}
	id := intentions.ID{TrustDomain: bundle.TrustDomain, Service: service, Datacenter: anyDatacenter}
	// The datacenter decides nothing, so one that this user may not see is no
	// reason to fail.
	if s, err := c.Status(ctx); err == nil && s.Datacenter != "" {
		id.Datacenter = s.Datacenter
	}
	return id.String(), nil
}

// anyDatacenter stands where the datacenter is not known.
const anyDatacenter = "dc1"

func parseSource(text string) (intentions.Service, error) {
	parts := strings.Split(text, "/")
	for _, p := range parts {
		if !intentions.ValidName(p) {
			parts = nil
		}
	}
	switch len(parts) {
	case 1:
		return intentions.NewService(parts[0]), nil
	case 3:
		return intentions.Service{Partition: parts[0], Namespace: parts[1], Name: parts[2]}, nil
	}
	return intentions.Service{}, fmt.Errorf("source %q is not a service: use its name, partition/namespace/name or SPIFFE ID", text)
}

func verdictText(f *authorizeFlags, d *connectd.Decision) string {
	switch d.Decision {
	case connectd.Allow:
		return f.source + " may reach " + f.destination
	case connectd.PerRequest:
		return "whether " + f.source + " may reach " + f.destination + " depends on the request; give --method and --path"
	}
	return f.source + " may not reach " + f.destination
}
