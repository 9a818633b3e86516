package main

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"net/http"

	agentconnect "github.com/hashicorp/consul/agent/connect"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/connect"
)

// dial shakes hands with the address, where it expects the destination.
func (a *app) dial(ctx context.Context, s *service, c command) (answer, error) {
	resolver, err := a.resolver(ctx, c)
	if err != nil {
		return answer{}, err
	}
	return s.shakeHands(ctx, resolver), nil
}

// dialConsul lets the SDK discover an instance of the destination first.
func (a *app) dialConsul(ctx context.Context, s *service, c command) (answer, error) {
	return s.shakeHands(ctx, &connect.ConsulResolver{Client: a.client, Name: c.Destination}), nil
}

func (a *app) resolver(ctx context.Context, c command) (connect.Resolver, error) {
	roots, _, err := a.client.Connect().CARoots((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return &connect.StaticResolver{
		Addr: c.Address,
		CertURI: &agentconnect.SpiffeIDService{
			Host:       roots.TrustDomain,
			Namespace:  "default",
			Datacenter: "dc1",
			Service:    c.Destination,
		},
	}, nil
}

// shakeHands also reads the first byte of the server: in TLS 1.3 the client's handshake is
// over before the server has judged the client, so a refusal shows only there.
func (s *service) shakeHands(ctx context.Context, r connect.Resolver) answer {
	conn, err := s.Dial(ctx, r)
	if err != nil {
		return answer{Error: err.Error()}
	}
	defer conn.Close()
	var result answer
	result.PeerURI, result.PeerSerial = peer(conn)
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		result.Error = err.Error()
		return result
	}
	result.Accepted = true
	return result
}

// get makes one request with the SDK's HTTP client, which resolves *.service.consul and
// *.query.consul. Its connection is not kept, so that every get is a new handshake. The
// SDK's dialing knows no context, so the timeout is that of the request.
func (s *service) get(ctx context.Context, url string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	client := s.HTTPClient()
	client.Transport.(*http.Transport).DisableKeepAlives = true
	response, err := client.Do(request)
	if err != nil {
		return answer{Error: err.Error()}, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return answer{Error: err.Error()}, nil
	}
	result := answer{Accepted: true, Status: response.StatusCode, Body: string(body)}
	if response.TLS != nil {
		leaf := response.TLS.PeerCertificates[0]
		result.PeerURI, result.PeerSerial = leaf.URIs[0].String(), hexSerial(leaf.SerialNumber)
	}
	return result, nil
}

// hexSerial writes a serial number as Consul's API does: bytes in hex, joined by colons.
func hexSerial(n *big.Int) string {
	var s string
	for i, b := range n.Bytes() {
		if i > 0 {
			s += ":"
		}
		s += fmt.Sprintf("%02x", b)
	}
	return s
}
