package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/clients/go/connectd"
)

// leafFlags choose what of a leaf is printed.
type leafFlags struct{ pem, key bool }

func newLeaf(g *globals) *cobra.Command {
	var f leafFlags
	cmd := &cobra.Command{
		Use:   "leaf SERVICE",
		Short: "Show the leaf certificate of a service",
		Long: `Show the leaf certificate of a service: its SPIFFE ID, serial number and dates.
The first request for a service waits up to 30 seconds for its leaf. The
private key is printed only with --key.`,
		Example: `  connectd leaf web
  connectd leaf web --pem | openssl x509 -noout -text
  (umask 077; connectd leaf web --key > web.key)`,
		Args:              oneService,
		ValidArgsFunction: g.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			leaf, err := g.readLeaf(cmd, args[0])
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(cmd.OutOrStdout(), leafJSON(leaf, f.key))
			}
			return printLeaf(cmd.OutOrStdout(), leaf, f, time.Now())
		},
	}
	cmd.Flags().BoolVar(&f.pem, "pem", false, "print the certificate chain as PEM")
	cmd.Flags().BoolVar(&f.key, "key", false, "print the private key as PEM (PKCS#8)")
	return cmd
}

func (g *globals) readLeaf(cmd *cobra.Command, service string) (leaf *connectd.LeafAnswer, err error) {
	c, err := g.client(cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	waiting(cmd.ErrOrStderr(), "the first leaf of "+service, func() {
		leaf, err = c.Leaf(cmd.Context(), service, connectd.ReadOptions{})
	})
	return leaf, err
}

// leafJSON is the document of the wire; the key is in it only if it was asked
// for.
func leafJSON(leaf *connectd.LeafAnswer, key bool) any {
	if !key {
		return leaf
	}
	return struct {
		*connectd.LeafAnswer
		PrivateKeyPEM string `json:"private_key_pem"`
	}{leaf, leaf.PrivateKeyPEM.Reveal()}
}

func printLeaf(w io.Writer, leaf *connectd.LeafAnswer, f leafFlags, now time.Time) error {
	if f.pem || f.key {
		return printLeafPEM(w, leaf, f)
	}
	t := newTable(w)
	t.row("SPIFFE ID", leaf.SPIFFEID)
	t.row("serial", leaf.SerialNumber)
	t.row("valid from", date(leaf.NotBefore))
	t.row("valid to", fmt.Sprintf("%s (%s)", date(leaf.NotAfter), life(leaf.NotBefore, leaf.NotAfter, now)))
	t.row("private key", "not shown; --key prints it")
	return t.flush()
}

func printLeafPEM(w io.Writer, leaf *connectd.LeafAnswer, f leafFlags) error {
	var text string
	if f.pem {
		text = withNewline(leaf.CertificatePEM)
	}
	if f.key {
		text += withNewline(leaf.PrivateKeyPEM.Reveal())
	}
	_, err := io.WriteString(w, text)
	return err
}

// withNewline lets one PEM follow another.
func withNewline(pem string) string {
	if pem != "" && pem[len(pem)-1] != '\n' {
		pem += "\n"
	}
	return pem
}
