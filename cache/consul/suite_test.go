package consul_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/consul"
	"github.com/connectd/connectd/cache/consul/consultest"
	"github.com/connectd/connectd/cache/sourcetest"
	"github.com/connectd/connectd/intentions"
)

// TestServerAgent runs the suite of all sources against a server agent.
func TestServerAgent(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, consultest.Options{})
	runSuite(t, server, server)
}

// TestClientAgent runs it against a client agent, which answers from a cache
// of its own and wraps errors.
func TestClientAgent(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, consultest.Options{})
	runSuite(t, server, consultest.Start(t, consultest.Options{Join: server}))
}

// TestServerAgentOverTLS runs it over HTTP/2, where queries share a
// connection.
func TestServerAgentOverTLS(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t, consultest.Options{TLS: true})
	runSuiteWith(t, server, server, func() consul.Config {
		return consul.Config{Address: server.HTTPSAddr, CAFile: server.CAFile}
	})
}

func runSuite(t *testing.T, server, agent *consultest.Agent) {
	runSuiteWith(t, server, agent, func() consul.Config { return consul.Config{Address: agent.Addr()} })
}

func runSuiteWith(t *testing.T, server, agent *consultest.Agent, config func() consul.Config) {
	sourcetest.Run(t, sourcetest.Harness{
		// A rotation is spread over 30 s by connectd and again by the agent.
		Patience: 90 * time.Second,
		Prompt:   time.Second,
		New: func(*testing.T) sourcetest.Fixture {
			return sourcetest.Fixture{
				Source: func(t *testing.T) cache.Source {
					c := config()
					c.SignaturesPerSecond = 40
					s, err := consul.New(c)
					if err != nil {
						t.Fatal(err)
					}
					return s
				},
				SetIntentions: func(t *testing.T, destination string, sources map[string]string) {
					var list []*api.SourceIntention
					for _, name := range slices.Sorted(maps.Keys(sources)) {
						list = append(list, &api.SourceIntention{
							Name: name, Action: api.IntentionAction(sources[name]),
						})
					}
					server.WriteIntentions(t, destination, list...)
				},
				DeleteIntentions: func(t *testing.T, destination string) { server.DeleteIntentions(t, destination) },
				Rotate:           func(t *testing.T) { server.RotateRoot(t) },
				RegisterLocal:    func(t *testing.T, name string) { agent.RegisterNative(t, name, 8080) },
				Deregister: func(t *testing.T, name string) {
					if err := agent.Client(t).Agent().ServiceDeregister(name); err != nil {
						t.Error(err)
					}
				},
				Default: func() intentions.DefaultAction {
					return intentions.DefaultAction{Allow: true, Origin: intentions.OriginACL}
				},
			}
		},
	})
}
