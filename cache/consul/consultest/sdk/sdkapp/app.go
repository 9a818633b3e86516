package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/connect"
)

// An app has the services that commands started.
type app struct {
	client   *api.Client
	services map[string]*service
}

// A service is one identity of the SDK with what runs under it.
type service struct {
	*connect.Service
	listeners []net.Listener
	storm     *storm
}

func newApp() (*app, error) {
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return nil, err
	}
	return &app{client: client, services: make(map[string]*service)}, nil
}

// do carries out one command and measures it.
func (a *app) do(c command) answer {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout())
	defer cancel()
	start := time.Now()
	result, err := a.dispatch(ctx, c)
	result.MS = float64(time.Since(start).Microseconds()) / 1000
	result.OK = err == nil
	if err != nil {
		result.Error = err.Error()
		if status, ok := errors.AsType[api.StatusError](err); ok {
			result.Code = status.Code
		}
	}
	return result
}

func (a *app) dispatch(ctx context.Context, c command) (answer, error) {
	switch c.Do {
	case "service":
		return a.start(ctx, c.Name)
	case "authorize":
		return a.authorize(ctx, c)
	case "leaf":
		return a.leaf(ctx, c)
	case "roots":
		return a.roots(ctx, c)
	}
	s, ok := a.services[c.Name]
	if !ok {
		return answer{}, fmt.Errorf("%s: no service %q", c.Do, c.Name)
	}
	switch c.Do {
	case "serve":
		return s.serveHTTP()
	case "serve_raw":
		return s.serveRaw()
	case "dial":
		return a.dial(ctx, s, c)
	case "dial_consul":
		return a.dialConsul(ctx, s, c)
	case "get":
		return s.get(ctx, c.URL)
	case "storm_start":
		return a.startStorm(ctx, s, c)
	case "storm_status":
		return s.stormStatus()
	case "storm_stop":
		return s.stopStorm()
	case "close":
		delete(a.services, c.Name)
		return answer{}, s.close()
	}
	return answer{}, fmt.Errorf("unknown command %q", c.Do)
}

// start makes a service and waits until it is ready. It stays when it does not become
// ready in time, as it would in an application.
func (a *app) start(ctx context.Context, name string) (answer, error) {
	if _, ok := a.services[name]; ok {
		return answer{}, fmt.Errorf("service %q runs already", name)
	}
	s, err := connect.NewService(name, a.client)
	if err != nil {
		return answer{}, err
	}
	a.services[name] = &service{Service: s}
	// ReadyWait gives a nil channel to whoever comes after the event.
	if ready := s.ReadyWait(); ready != nil {
		select {
		case <-ready:
		case <-ctx.Done():
			return answer{}, fmt.Errorf("service %q is not ready: %w", name, ctx.Err())
		}
	}
	return answer{Ready: s.Ready()}, nil
}

func (s *service) close() error {
	if s.storm != nil {
		s.storm.stop()
	}
	for _, l := range s.listeners {
		l.Close()
	}
	return s.Close()
}

func (a *app) closeAll() {
	for _, s := range a.services {
		s.close()
	}
}
