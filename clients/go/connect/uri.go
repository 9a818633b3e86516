package connect

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/connectd/connectd/intentions"
)

// CertURI is an identity that a certificate can have.
type CertURI interface {
	// URI is the SPIFFE ID.
	URI() *url.URL
}

// SpiffeIDService is the identity of a service. An empty Partition or Namespace
// is "default".
type SpiffeIDService struct {
	// Host is the trust domain. Whatever it says, the trust domain of our own
	// bundle is expected when a service is dialed.
	Host       string
	Partition  string
	Namespace  string
	Datacenter string
	Service    string
}

// URI is the SPIFFE ID as Consul writes it.
func (id SpiffeIDService) URI() *url.URL {
	full := id.id()
	path := "/ns/" + full.Service.Namespace + "/dc/" + full.Datacenter + "/svc/" + full.Service.Name
	if full.Service.Partition != intentions.DefaultPart {
		path = "/ap/" + full.Service.Partition + path
	}
	return &url.URL{Scheme: "spiffe", Host: full.TrustDomain, Path: path}
}

func (id SpiffeIDService) id() intentions.ID {
	s := intentions.NewService(id.Service)
	if id.Partition != "" {
		s.Partition = id.Partition
	}
	if id.Namespace != "" {
		s.Namespace = id.Namespace
	}
	return intentions.ID{TrustDomain: id.Host, Service: s, Datacenter: id.Datacenter}
}

// ParseCertURI reads the SPIFFE ID of a service.
func ParseCertURI(u *url.URL) (CertURI, error) {
	if u == nil {
		return nil, errors.New("connect: there is no URI")
	}
	id, err := intentions.ParseID(u.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %.200q is %w", u.String(), err)
	}
	return &SpiffeIDService{
		Host: id.TrustDomain, Partition: id.Service.Partition, Namespace: id.Service.Namespace,
		Datacenter: id.Datacenter, Service: id.Service.Name,
	}, nil
}

// CertURIFromConn returns the identity of the service at the other end of a
// connection of TLS after its handshake.
func CertURIFromConn(conn net.Conn) (CertURI, error) {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return nil, errors.New("connect: this connection is not one of TLS")
	}
	return certURI(secure.ConnectionState().PeerCertificates)
}

func certURI(chain []*x509.Certificate) (CertURI, error) {
	if len(chain) == 0 {
		return nil, errors.New("connect: the peer has shown no certificate; is the handshake over?")
	}
	if n := len(chain[0].URIs); n != 1 {
		return nil, fmt.Errorf("connect: the peer's certificate has %d URIs, and a service has one", n)
	}
	return ParseCertURI(chain[0].URIs[0])
}
