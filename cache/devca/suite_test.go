package devca

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/sourcetest"
	"github.com/connectd/connectd/intentions"
)

// driver changes an authority's intentions one destination at a time.
type driver struct {
	a     *Authority
	mu    sync.Mutex // guards files
	files map[string]string
}

func (d *driver) set(t *testing.T, destination, text string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, destination)
	if text != "" {
		d.files[destination] = text
	}
	if err := d.a.Replace(d.files); err != nil {
		t.Fatal(err)
	}
}

func (d *driver) setIntentions(t *testing.T, destination string, sources map[string]string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "Kind = %q\nName = %q\n", "service-intentions", destination)
	for source, action := range sources {
		fmt.Fprintf(&b, "Sources { Name = %q  Action = %q }\n", source, action)
	}
	d.set(t, destination, b.String())
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Harness{New: func(t *testing.T) sourcetest.Fixture {
		a := newAuthority(t, Config{Default: intentions.DefaultAction{Origin: intentions.OriginConfig}})
		d := &driver{a: a, files: map[string]string{}}
		return sourcetest.Fixture{
			Source:           func(*testing.T) cache.Source { return a },
			SetIntentions:    d.setIntentions,
			DeleteIntentions: func(t *testing.T, destination string) { d.set(t, destination, "") },
			Rotate: func(t *testing.T) {
				if err := a.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			RegisterLocal: func(t *testing.T, name string) {
				if err := a.AddService(Service{Name: name, Port: 8080}); err != nil {
					t.Fatal(err)
				}
			},
			Deregister: func(_ *testing.T, name string) { a.RemoveService(name) },
			Default:    func() intentions.DefaultAction { return a.cfg.Default },
		}
	}})
}
