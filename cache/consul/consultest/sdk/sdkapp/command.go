package main

import (
	"encoding/json"
	"fmt"
	"time"
)

// A command is one line of input. Do names it; each reads only the fields it needs.
type command struct {
	Do          string   `json:"do"`
	Name        string   `json:"name"`        // the service whose leaf is used
	Address     string   `json:"address"`     // dial: host:port
	Destination string   `json:"destination"` // dial: the service expected there
	URL         string   `json:"url"`
	Target      string   `json:"target"`
	URI         string   `json:"uri"`
	Index       uint64   `json:"index"`
	Wait        duration `json:"wait"`
	Uncached    bool     `json:"uncached"` // roots: not the agent's copy
	Rate        float64  `json:"rate"`     // storm: handshakes per second
	Timeout     duration `json:"timeout"`  // of the whole command, 10s when absent
}

func (c command) timeout() time.Duration {
	if c.Timeout == 0 {
		return 10 * time.Second
	}
	return time.Duration(c.Timeout)
}

// An answer is one line of output. OK says that the command was carried out; what came of
// a handshake is in Accepted, and of an authorize call in Authorized. Error has the reason
// whenever one of them is false.
type answer struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"` // HTTP status of a failed API call

	Ready   bool    `json:"ready,omitempty"`
	Address string  `json:"address,omitempty"`
	MS      float64 `json:"ms"`

	Accepted   bool   `json:"accepted"`
	PeerURI    string `json:"peer_uri,omitempty"`
	PeerSerial string `json:"peer_serial,omitempty"`
	Status     int    `json:"status,omitempty"`
	Body       string `json:"body,omitempty"`

	Authorized bool   `json:"authorized"`
	Reason     string `json:"reason,omitempty"`

	Serial      string   `json:"serial,omitempty"`
	URI         string   `json:"uri,omitempty"`
	ValidBefore string   `json:"valid_before,omitempty"`
	Index       uint64   `json:"index,omitempty"`
	Active      string   `json:"active,omitempty"`
	TrustDomain string   `json:"trust_domain,omitempty"`
	Roots       []string `json:"roots,omitempty"`

	Storm *stormResult `json:"storm,omitempty"`
}

// A duration is written as Go writes it, like "1m30s".
type duration time.Duration

func (d *duration) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	parsed, err := time.ParseDuration(s)
	*d = duration(parsed)
	return err
}
