package cache

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/connectd/connectd/intentions"
)

// Buckets and keys of the store.
const (
	bucketMeta      = "meta"
	bucketLeaf      = "leaf"
	bucketPolicy    = "policy"
	bucketAsked     = "asked"
	bucketDiscovery = "discovery"

	keyIndex         = "index"
	keyBundle        = "bundle"
	keyDefault       = "default_action"
	keyNormalization = "normalization"
	keyLocal         = "local_services"
	keyConfirmed     = "confirmed"
)

type bundleRecord struct {
	Index uint64
	// Confirmed is when the bundle was written, which upstream had confirmed
	// just then. The record of confirmation times is newer, where there is one.
	Confirmed    time.Time
	TrustDomain  string
	ActiveRootID string
	Roots        []Root
}

type leafRecord struct {
	Index                    uint64
	Service                  intentions.Service
	CertPEM, KeyPEM          string
	CreateIndex, ModifyIndex uint64
}

type policyRecord struct {
	Index     uint64
	Confirmed time.Time
	Service   intentions.Service
	// Default and Normalization are what the policy was built with. A daemon
	// that comes back with others gives the policy another index.
	Default       intentions.DefaultAction
	Normalization intentions.Normalization
	Rows          json.RawMessage
}

type defaultRecord intentions.DefaultAction

type askedRecord struct{ Leaf, Policy time.Time }

// confirmedRecord says when upstream last confirmed what is stored: one small
// record instead of one for each service. Policies is the moment that most
// policies share; Others holds the rest.
type confirmedRecord struct {
	Bundle   time.Time
	Policies time.Time
	Others   map[string]time.Time
}

// encode never fails on our own record types.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return b
}

func encodeBundle(p *BundlePart) []byte {
	b := p.Bundle
	return encode(bundleRecord{p.Index, time.Now().UTC(), b.TrustDomain, b.ActiveRootID, b.Roots})
}

func encodeLeaf(p *LeafPart) []byte {
	l := p.Leaf
	return encode(leafRecord{p.Index, l.Service, l.CertPEM, l.KeyPEM.Reveal(), l.CreateIndex, l.ModifyIndex})
}

func encodePolicy(p *PolicyPart, o *overview, confirmed time.Time) []byte {
	return encode(policyRecord{
		p.Index, confirmed.UTC(), p.Table.Policy().Destination, o.fallback, o.normalization, p.Raw,
	})
}

// serviceKey names a service in the store. Partitions and namespaces hold no
// slash.
func serviceKey(s intentions.Service) string {
	return s.Partition + "/" + s.Namespace + "/" + s.Name
}

func parseServiceKey(key string) (intentions.Service, bool) {
	parts := strings.SplitN(key, "/", 3)
	if len(parts) != 3 {
		return intentions.Service{}, false
	}
	return intentions.Service{Partition: parts[0], Namespace: parts[1], Name: parts[2]}, true
}
