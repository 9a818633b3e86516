package entries

import "github.com/connectd/connectd/intentions"

// Service is a service definition: one instance of a service on this host.
type Service struct {
	ID      string
	Name    string
	Address string
	Port    int
	Tags    []string
	Meta    map[string]string
	// Native is set for a service that speaks mTLS itself.
	Native bool
	// Place is where the service was written.
	Place Place
}

// service reads a service definition. Checks and weights are accepted and say
// nothing here: every service counts as healthy.
func (o *object) service() Service {
	s := Service{
		ID:      o.text("ID"),
		Name:    o.text("Name"),
		Address: o.text("Address"),
		Port:    o.number("Port"),
		Tags:    o.texts("Tags"),
		Meta:    o.meta("Meta"),
		Place:   o.n.at,
	}
	if !intentions.ValidName(s.Name) {
		o.fail("Name", "use letters, digits, dots, dashes and underscores", `is "`+s.Name+`"`)
	}
	if s.ID == "" {
		s.ID = s.Name
	}
	if s.Port < 0 || s.Port > 65535 {
		o.fail("Port", "use a port from 1 to 65535", "is out of range")
	}
	if c := o.object("Connect"); c != nil {
		s.Native = c.flag("Native")
		if c.has("SidecarService") {
			c.fail("SidecarService", "write native = true: there are no proxies here", "asks for a proxy")
		}
		c.done()
	}
	if s.Native && s.Port == 0 {
		o.fail("Port", "give the port on which the native service listens", "is missing")
	}
	if o.has("Kind") || o.has("Proxy") {
		o.d.fail(o.n.at, "define the service itself, with connect { native = true }", "%s is a proxy or gateway", o.path)
	}
	o.ignore("Check", "Checks", "Weights", "EnableTagOverride", "TaggedAddresses", "Token", "Locality")
	o.done()
	return s
}
