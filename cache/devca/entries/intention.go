package entries

// Kind is the kind of configuration entry that holds intentions.
const Kind = "service-intentions"

// Entry is a service-intentions configuration entry: all intentions of one
// destination. The members and their JSON are Consul's.
type Entry struct {
	Name    string
	Sources []Source
	JWT     *JWT              `json:",omitempty"`
	Meta    map[string]string `json:",omitempty"`
	// Place is where the entry was written.
	Place Place `json:"-"`
}

// Source is one intention of an entry. It has an action or permissions.
type Source struct {
	Name        string
	Action      string       `json:",omitempty"`
	Permissions []Permission `json:",omitempty"`
	Description string       `json:",omitempty"`
	Peer        string       `json:",omitempty"`
}

// Permission is one condition on requests and its action.
type Permission struct {
	Action string
	HTTP   *HTTP `json:",omitempty"`
	JWT    *JWT  `json:",omitempty"`
}

// HTTP is what a request must look like.
type HTTP struct {
	PathExact  string   `json:",omitempty"`
	PathPrefix string   `json:",omitempty"`
	PathRegex  string   `json:",omitempty"`
	Header     []Header `json:",omitempty"`
	Methods    []string `json:",omitempty"`
}

// Header is a condition on one header.
type Header struct {
	Name       string
	Present    bool   `json:",omitempty"`
	Exact      string `json:",omitempty"`
	Prefix     string `json:",omitempty"`
	Suffix     string `json:",omitempty"`
	Contains   string `json:",omitempty"`
	Regex      string `json:",omitempty"`
	Invert     bool   `json:",omitempty"`
	IgnoreCase bool   `json:",omitempty"`
}

// JWT names the providers whose tokens a request must carry.
type JWT struct {
	Providers []Provider `json:",omitempty"`
}

// Provider is a JWT provider and the claims to verify.
type Provider struct {
	Name         string  `json:",omitempty"`
	VerifyClaims []Claim `json:",omitempty"`
}

// Claim is one claim of a token.
type Claim struct {
	Path  []string `json:",omitempty"`
	Value string   `json:",omitempty"`
}

func (o *object) entry() Entry {
	e := Entry{Place: o.n.at}
	if kind := o.text("Kind"); kind != Kind {
		o.fail("Kind", `write "`+Kind+`": no other configuration entry is read here`, `is "`+kind+`"`)
	}
	e.Name = o.serviceName("Name")
	e.Meta = o.meta("Meta")
	e.JWT = o.jwt("JWT")
	sources := o.objects("Sources")
	if len(sources) == 0 {
		o.fail("Sources", `name at least one source, for example Sources = [{ Name = "web", Action = "allow" }]`, "is empty")
	}
	seen := map[[2]string]bool{}
	for _, so := range sources {
		s := so.source(e.Name == wildcard)
		if key := [2]string{s.Name, s.Peer}; seen[key] {
			so.fail("Name", "join the two sources", `"`+s.Name+`" is defined more than once`)
		} else {
			seen[key] = true
		}
		e.Sources = append(e.Sources, s)
	}
	// What Consul adds when it prints an entry may be written back.
	o.ignore("CreateIndex", "ModifyIndex", "Hash")
	o.done()
	return e
}

func (o *object) source(toAll bool) Source {
	s := Source{
		Name:        o.serviceName("Name"),
		Action:      o.text("Action"),
		Description: o.text("Description"),
		Peer:        o.text("Peer"),
	}
	if kind := o.text("Type"); kind != "" && kind != "consul" {
		o.fail("Type", `write "consul" or leave it out`, `is "`+kind+`"`)
	}
	for _, p := range o.objects("Permissions") {
		s.Permissions = append(s.Permissions, p.permission())
	}
	o.ignore("Precedence")
	o.done()
	o.checkSource(&s, toAll)
	return s
}

func (o *object) permission() Permission {
	p := Permission{Action: o.text("Action"), JWT: o.jwt("JWT")}
	o.checkAction(p.Action)
	if h := o.object("HTTP"); h != nil {
		p.HTTP = h.http()
	} else {
		o.fail("HTTP", `say which requests, for example HTTP = { PathPrefix = "/" }`, "is missing")
	}
	o.done()
	return p
}

func (o *object) http() *HTTP {
	h := &HTTP{
		PathExact:  o.text("PathExact"),
		PathPrefix: o.text("PathPrefix"),
		PathRegex:  o.text("PathRegex"),
		Methods:    o.methods("Methods"),
	}
	for _, x := range o.objects("Header") {
		h.Header = append(h.Header, x.header())
	}
	o.done()
	o.checkHTTP(h)
	return h
}

func (o *object) header() Header {
	h := Header{
		Name:       o.text("Name"),
		Present:    o.flag("Present"),
		Exact:      o.text("Exact"),
		Prefix:     o.text("Prefix"),
		Suffix:     o.text("Suffix"),
		Contains:   o.text("Contains"),
		Regex:      o.text("Regex"),
		Invert:     o.flag("Invert"),
		IgnoreCase: o.flag("IgnoreCase"),
	}
	o.done()
	o.checkHeader(&h)
	return h
}

func (o *object) jwt(key string) *JWT {
	child := o.object(key)
	if child == nil {
		return nil
	}
	j := &JWT{}
	for _, p := range child.objects("Providers") {
		provider := Provider{Name: p.text("Name")}
		if provider.Name == "" {
			p.fail("Name", "name the JWT provider", "is missing")
		}
		for _, c := range p.objects("VerifyClaims") {
			provider.VerifyClaims = append(provider.VerifyClaims, Claim{Path: c.texts("Path"), Value: c.text("Value")})
			c.done()
		}
		p.done()
		j.Providers = append(j.Providers, provider)
	}
	child.done()
	return j
}
