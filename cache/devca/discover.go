package devca

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

const (
	// discoverWait is how long a lookup waits for another answer.
	discoverWait = time.Minute
	// nodeAddress is where services listen that give no address.
	nodeAddress = "127.0.0.1"
	nodeID      = "c0000000-0000-4000-8000-00000000dec0"
)

// Discover implements cache.Discoverer over the registered services, all of
// which count as healthy.
func (a *Authority) Discover(ctx context.Context, l cache.Lookup, have *cache.Discovered) (*cache.Discovered, error) {
	if l.Datacenter != "" && l.Datacenter != a.cfg.Datacenter {
		return nil, fmt.Errorf("discover %s: no path to datacenter %q; the development authority is in %s alone",
			l.Service, l.Datacenter, a.cfg.Datacenter)
	}
	late := time.NewTimer(discoverWait)
	defer late.Stop()
	for waiting := have != nil; ; {
		now := a.current()
		found, err := a.find(now, l)
		if err != nil {
			return nil, fmt.Errorf("discover %s: %w", l.Service, err)
		}
		if !waiting || !bytes.Equal(found.Body, have.Body) {
			return found, nil
		}
		select {
		case <-now.changed:
		case <-late.C:
			waiting = false
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (a *Authority) find(now *state, l cache.Lookup) (*cache.Discovered, error) {
	d := &cache.Discovered{UpstreamIndex: 1}
	instances := []healthInstance{}
	for _, r := range now.services {
		if !l.Service.InDefaultParts() || !strings.EqualFold(r.Name, l.Service.Name) || (l.Mesh && !r.Native) {
			continue
		}
		d.UpstreamIndex = max(d.UpstreamIndex, r.index)
		instances = append(instances, a.health(r))
		d.Instances = append(d.Instances, cache.Instance{
			ID: r.ID, Node: node, Address: cmp.Or(r.Address, nodeAddress), Port: r.Port,
			Datacenter: a.cfg.Datacenter, Service: intentions.NewService(r.Name),
		})
	}
	var err error
	d.Body, err = json.Marshal(instances)
	return d, err
}

// healthInstance is one instance as Consul's health routes list it.
type healthInstance struct {
	Node    healthNode
	Service healthService
	Checks  []healthCheck
}

type healthNode struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
	CreateIndex     uint64
	ModifyIndex     uint64
}

type healthService struct {
	ID                string
	Service           string
	Tags              []string
	Address           string
	Meta              map[string]string
	Port              int
	Weights           struct{ Passing, Warning int }
	EnableTagOverride bool
	Proxy             struct {
		Mode        string
		MeshGateway struct{}
		Expose      struct{}
	}
	Connect struct {
		Native bool `json:",omitempty"`
	}
	PeerName    string
	CreateIndex uint64
	ModifyIndex uint64
}

type healthCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Definition  struct{}
	CreateIndex uint64
	ModifyIndex uint64
}

func (a *Authority) health(r registered) healthInstance {
	var h healthInstance
	h.Node = healthNode{
		ID: nodeID, Node: node, Address: nodeAddress, Datacenter: a.cfg.Datacenter,
		TaggedAddresses: map[string]string{"lan": nodeAddress, "wan": nodeAddress},
		Meta:            map[string]string{}, CreateIndex: 1, ModifyIndex: 1,
	}
	h.Service.ID, h.Service.Service = r.ID, r.Name
	h.Service.Tags = append([]string{}, r.Tags...)
	h.Service.Address, h.Service.Port, h.Service.Meta = r.Address, r.Port, r.Meta
	h.Service.Weights.Passing, h.Service.Weights.Warning = 1, 1
	h.Service.Connect.Native = r.Native
	h.Service.CreateIndex, h.Service.ModifyIndex = r.index, r.index
	h.Checks = []healthCheck{{
		Node: node, CheckID: "serfHealth", Name: "Serf Health Status", Status: "passing",
		Output: "Agent alive and reachable", ServiceTags: []string{}, CreateIndex: 1, ModifyIndex: 1,
	}}
	return h
}
