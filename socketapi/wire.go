package socketapi

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// schema is the version of the documents on the wire.
const schema = 1

// Slots of a snapshot's remembered bodies.
const (
	slotFull = iota
	slotWithoutLeaf
	slotPolicy
)

// serviceWire names a service and where it is.
type serviceWire struct {
	Partition  string `json:"partition"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Datacenter string `json:"datacenter,omitempty"`
}

func wireService(s intentions.Service, datacenter string) serviceWire {
	return serviceWire{s.Partition, s.Namespace, s.Name, datacenter}
}

// leafWire is a leaf with its private key.
type leafWire struct {
	Index          uint64    `json:"index"`
	SPIFFEID       string    `json:"spiffe_id"`
	SerialNumber   string    `json:"serial_number"`
	CertificatePEM string    `json:"certificate_pem"`
	PrivateKeyPEM  string    `json:"private_key_pem"`
	NotBefore      time.Time `json:"not_before"`
	NotAfter       time.Time `json:"not_after"`
}

func wireLeaf(p *cache.LeafPart) (*leafWire, error) {
	key, err := p.Leaf.KeyPKCS8()
	if err != nil {
		return nil, err
	}
	return &leafWire{
		Index: p.Index, SPIFFEID: p.Leaf.SPIFFEID, SerialNumber: p.Leaf.SerialNumber,
		CertificatePEM: p.Leaf.CertPEM, PrivateKeyPEM: key.Reveal(),
		NotBefore: p.Leaf.NotBefore.UTC(), NotAfter: p.Leaf.NotAfter.UTC(),
	}, nil
}

type rootWire struct {
	ID             string    `json:"id"`
	CertificatePEM string    `json:"certificate_pem"`
	Active         bool      `json:"active"`
	NotAfter       time.Time `json:"not_after"`
}

type bundleWire struct {
	Index       uint64     `json:"index"`
	TrustDomain string     `json:"trust_domain"`
	Roots       []rootWire `json:"roots"`
}

func wireBundle(p *cache.BundlePart) *bundleWire {
	out := &bundleWire{Index: p.Index, TrustDomain: p.Bundle.TrustDomain}
	for i := range p.Bundle.Roots {
		r := &p.Bundle.Roots[i]
		out.Roots = append(out.Roots, rootWire{
			ID: r.ID, CertificatePEM: r.CertPEM, Active: r.ID == p.Bundle.ActiveRootID, NotAfter: r.NotAfter.UTC(),
		})
	}
	return out
}

// policyWire is the policy document with its index.
type policyWire struct {
	Index uint64 `json:"index"`
	*intentions.Policy
}

func wirePolicy(p *cache.PolicyPart) policyWire { return policyWire{p.Index, p.Table.Policy()} }

// snapshotWire is a snapshot without its varying head.
type snapshotWire struct {
	Schema    int         `json:"schema"`
	Index     uint64      `json:"index"`
	Service   serviceWire `json:"service"`
	Leaf      *leafWire   `json:"leaf,omitempty"`
	LeafError string      `json:"leaf_error,omitempty"`
	Bundle    *bundleWire `json:"bundle"`
	Policy    policyWire  `json:"policy"`
}

// encodeSnapshot writes everything behind the head, from the comma on.
func encodeSnapshot(s *cache.Snapshot, withLeaf bool) []byte {
	out := snapshotWire{
		Schema: schema, Index: s.Index, Bundle: wireBundle(s.Bundle), Policy: wirePolicy(s.Policy),
		Service: wireService(s.Service, s.Leaf.Leaf.Datacenter), LeafError: s.Leaf.Error,
	}
	if withLeaf && s.Leaf.Error == "" {
		leaf, err := wireLeaf(s.Leaf)
		if err != nil {
			// The leaf was checked when it arrived, so this is a defect; the
			// caller is told that there is no usable leaf.
			out.LeafError = cache.LeafErrorUntrusted
		}
		out.Leaf = leaf
	}
	return tail(out)
}

// tail encodes an object and replaces its opening brace, so that it continues
// the head.
func tail(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		// Only our own types, which always encode, come here.
		panic("encode a response: " + err.Error())
	}
	body[0] = ','
	return body
}

// head is the varying first part of a response: how old and how durable the
// rest is.
func (a *api) head(age time.Duration, now time.Time) []byte {
	b := make([]byte, 0, 128)
	b = append(b, `{"age_seconds":`...)
	b = strconv.AppendFloat(b, seconds(age), 'f', 3, 64)
	b = append(b, `,"freshness":"`...)
	b = append(b, freshness(age)...)
	b = append(b, `","deny_after_seconds":`...)
	b = strconv.AppendInt(b, int64(a.cfg.Cache.MaxStale()/time.Second), 10)
	b = append(b, `,"store":"`...)
	b = append(b, a.cfg.Cache.StoreState()...)
	return append(b, '"')
}

// maxAge stands for the age of what was never confirmed: numbers stay below
// 2^53.
const maxAge = 100 * 365 * 24 * time.Hour

func seconds(age time.Duration) float64 { return min(age, maxAge).Seconds() }

func freshness(age time.Duration) string {
	if age <= cache.FreshFor {
		return "fresh"
	}
	return "stale"
}
