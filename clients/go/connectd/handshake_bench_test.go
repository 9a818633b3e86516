package connectd

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"testing"
	"time"
)

// BenchmarkHandshake compares the whole of mutual TLS 1.3 over loopback, first
// byte included, with the same handshake where crypto/tls verifies the chain
// and nobody decides. The two are taken in turn, so that what else the machine
// does meets both.
func BenchmarkHandshake(b *testing.B) {
	w := newWorld(b, webMayReachDB)
	db, web := w.source("db"), w.source("web")
	server, client := db.Snapshot(), web.Snapshot()
	bare := func(leaf *tls.Certificate) *tls.Config {
		return &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*leaf}, NextProtos: httpProtos(), SessionTicketsDisabled: true,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: server.bundle.pool, RootCAs: server.bundle.pool,
		}
	}
	bareClient := bare(&client.leaf.certificate)
	// A SPIFFE ID is no host name, so the client's half verifies the chain by
	// hand in both.
	bareClient.InsecureSkipVerify = true
	bareClient.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: server.bundle.pool})
		return err
	}
	ours, err := ClientTLSConfig(web, "db")
	if err != nil {
		b.Fatal(err)
	}
	kinds := []struct {
		name    string
		address string
		client  *tls.Config
		took    []time.Duration
	}{
		{name: "bare", address: greet(b, tls.NewListener(localListener(b), bare(&server.leaf.certificate))), client: bareClient},
		{name: "connectd", address: greet(b, Listen(db, localListener(b))), client: ours},
	}
	for b.Loop() {
		for i := range kinds {
			k := &kinds[i]
			began := time.Now()
			conn, err := tls.Dial("tcp", k.address, k.client)
			if err == nil {
				err = heard(conn, nil)
			}
			if err != nil {
				b.Fatal(err)
			}
			k.took = append(k.took, time.Since(began))
			_ = conn.NetConn().(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)/2])
	}
	plain, decided := median(kinds[0].took), median(kinds[1].took)
	b.ReportMetric(plain/1e3, "bare-µs")
	b.ReportMetric(decided/1e3, "connectd-µs")
	b.ReportMetric(decided/plain, "ratio")
}
