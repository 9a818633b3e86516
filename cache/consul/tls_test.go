package consul

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// tlsSource makes a source that speaks HTTP/2 with the fake.
func (f *fake) tlsSource() *Source {
	f.t.Helper()
	key := newKey(f.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10000 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(f.t)
	path := filepath.Join(f.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte(encodePEM("CERTIFICATE", der)), 0o600); err != nil {
		f.t.Fatal(err)
	}
	s := must(New(Config{Address: "https://127.0.0.1:8501", CAFile: path}))(f.t)
	s.held.Transport.(*http.Transport).DialContext = f.listen(func(server *http.Server, l net.Listener) error {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
		return server.ServeTLS(l, "", "")
	})
	return s
}
