package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
)

func newBundle(g *globals) *cobra.Command {
	var pem bool
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Show the trust bundle",
		Long:  "Show the roots that certificates of the mesh are verified with. The active root\nsigns new leaves; the others are kept while leaves of theirs may be in use.",
		Example: `  connectd bundle
  connectd bundle --pem > roots.pem`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := g.readBundle(cmd)
			if err != nil {
				return err
			}
			switch out := cmd.OutOrStdout(); {
			case g.json:
				return printJSON(out, b)
			case pem:
				return printRootsPEM(out, b)
			default:
				return printBundle(out, b, time.Now())
			}
		},
	}
	cmd.Flags().BoolVar(&pem, "pem", false, "print the roots as PEM")
	return cmd
}

func (g *globals) readBundle(cmd *cobra.Command) (bundle *connectd.BundleAnswer, err error) {
	c, err := g.client(cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	waiting(cmd.ErrOrStderr(), "the first trust bundle", func() {
		bundle, err = c.Bundle(cmd.Context(), connectd.ReadOptions{})
	})
	return bundle, err
}

func printRootsPEM(w io.Writer, b *connectd.BundleAnswer) error {
	for _, r := range b.Roots {
		if _, err := io.WriteString(w, withNewline(r.CertificatePEM)); err != nil {
			return err
		}
	}
	return nil
}

func printBundle(w io.Writer, b *connectd.BundleAnswer, now time.Time) error {
	t := newTable(w)
	t.row("trust domain", b.TrustDomain)
	t.row("state", confirmed(b.Freshness, b.AgeSeconds))
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w)
	t.row("ROOT", "ACTIVE", "ENDS")
	for _, r := range b.Roots {
		t.row(r.ID, yesNo(r.Active), fmt.Sprintf("%s (%s)", date(r.NotAfter), life(time.Time{}, r.NotAfter, now)))
	}
	return t.flush()
}
