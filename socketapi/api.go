package socketapi

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/singleflight"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// Upstream answers what is not cached. A development authority has none.
type Upstream interface {
	// Pass sends a GET with the daemon's token and returns Consul's answer as
	// it is; an error means that there was none.
	Pass(ctx context.Context, path string, query url.Values) (status int, header http.Header, body []byte, err error)
	// LiveIntentions reads the rows of a destination that is not watched.
	LiveIntentions(ctx context.Context, destination intentions.Service) (json.RawMessage, error)
}

// Config is what the API needs. It is copied.
type Config struct {
	Cache     *cache.Cache
	Admission Admission
	// Rules are what the administrator is told about; nil means Admission,
	// where that is not the same.
	Rules Admission
	// Upstream may be nil.
	Upstream Upstream
	// Version and UpstreamName are shown in the status.
	Version      string
	UpstreamName string
	// Administration answers on the admin socket; the main one has no use for it.
	Administration Administration
	// Refusals are shared by the servers of a daemon; nil keeps them apart.
	Refusals *Refusals
	// StoreKey is the class of the place where the store's key is.
	StoreKey string
	// Limits are shared by the servers of a daemon; nil means the defaults for
	// this one.
	Limits *Limits
	// Pin holds the process of a peer; nil means PeerPin. Where the kernel
	// cannot, peers are known by their ids alone.
	Pin    Pin
	Logger hclog.Logger
}

// api holds what handlers share.
type api struct {
	cfg      Config
	logger   hclog.Logger
	started  time.Time
	stopping chan struct{}
	// passing shares identical requests that are on their way to Consul.
	passing singleflight.Group
}

// Server serves one socket. Run it with Serve.
type Server struct {
	api    *api
	router *router
	http   *http.Server
}

// New makes the server of the main socket.
func New(cfg Config) *Server {
	s := newServer(cfg)
	s.api.addOwnRoutes(s.router)
	s.api.addConsulRoutes(s.router)
	return s
}

// NewAdmin makes the server of the admin socket, whose mode keeps everybody
// but the administrator out: it shows all services.
func NewAdmin(cfg Config) *Server {
	if cfg.Rules == nil {
		cfg.Rules = cfg.Admission
	}
	cfg.Admission = everyone{}
	s := newServer(cfg)
	s.api.addOwnRoutes(s.router)
	s.api.addAdminRoutes(s.router)
	return s
}

// everyone admits whoever could open the admin socket, except for keys, which
// leave the daemon only to an admitted process.
type everyone struct{}

func (everyone) Admit(_ Peer, g Grant, _ intentions.Service) bool { return g != GrantLeaf }

const (
	readHeaderTimeout = 2 * time.Second
	idleTimeout       = time.Minute
	maxRequestBytes   = 64 << 10
)

func newServer(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Rules == nil {
		cfg.Rules = cfg.Admission
	}
	if cfg.Refusals == nil {
		cfg.Refusals = &Refusals{}
	}
	if cfg.Limits == nil {
		cfg.Limits = NewLimits(0, 0)
	}
	if cfg.Pin == nil {
		cfg.Pin = PeerPin
	}
	a := &api{cfg: cfg, logger: cfg.Logger.Named("socket"), started: time.Now(), stopping: make(chan struct{})}
	r := &router{mux: chi.NewRouter(), api: a}
	r.mux.NotFound(a.notFound)
	return &Server{api: a, router: r, http: &http.Server{
		Handler:           a.strict(r.mux),
		ConnContext:       withConnection,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeadBytes,
		ErrorLog:          a.logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}}
}

// Routes lists what is registered, for those who check grants.
func (s *Server) Routes() []Route { return slices.Clone(s.router.routes) }

// Handler returns the server's handler, for benchmarks and tests.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Serve answers on l until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(&door{Listener: l, pin: s.api.cfg.Pin, limits: s.api.cfg.Limits}); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// Close ends the server and all its connections at once.
func (s *Server) Close() error { return s.http.Close() }

// Shutdown answers everything that waits with what there is, and then closes
// the connections.
func (s *Server) Shutdown(ctx context.Context) error {
	close(s.api.stopping)
	return s.http.Shutdown(ctx)
}

var errStopping = &apiError{http.StatusServiceUnavailable, CodeShuttingDown, "the daemon is stopping; try again", 1}

// notFound names the path, what is served here, and the remedy.
func (a *api) notFound(w http.ResponseWriter, req *http.Request) {
	c := &call{Request: req, w: w, api: a, route: &Route{}}
	c.fail(&apiError{status: http.StatusNotFound, code: CodeNoSuchRoute, message: "no route " + clip(req.URL.Path) +
		": this is connectd, which serves its own /v1 routes and, for Consul's Connect SDK, the agent's " +
		"connect/ca/roots, connect/ca/leaf, connect/authorize, intentions/match, health and query/execute; " +
		"for registration, KV and the rest keep CONSUL_HTTP_ADDR on the Consul agent and give the SDK a client " +
		"of its own whose address is this socket"})
}
