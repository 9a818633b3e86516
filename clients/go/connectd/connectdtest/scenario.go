package connectdtest

import (
	"context"
	"time"

	"github.com/connectd/connectd/clients/go/connectd"
)

// TB is what is needed of a testing.TB.
type TB interface {
	Helper()
	Cleanup(f func())
	Fatalf(format string, args ...any)
}

// Allowed starts a daemon that lets every service reach every other.
func Allowed(t TB) *Daemon {
	t.Helper()
	return start(t, func(d *Daemon) { d.action = connectd.Allow })
}

// Denied starts a daemon that lets no service reach another.
func Denied(t TB) *Daemon {
	t.Helper()
	return start(t, func(*Daemon) {})
}

// rotateEvery is short enough for many rotations in one test.
const rotateEvery = 100 * time.Millisecond

// Rotating starts a daemon that allows everything and has a new root, and with
// it new leaves, ten times a second.
func Rotating(t TB) *Daemon {
	t.Helper()
	d := Allowed(t)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(rotateEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				d.Rotate()
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done })
	return d
}

// Gone starts a daemon that allows everything, gives each service its first
// snapshot, and answers nothing after that.
func Gone(t TB) *Daemon {
	t.Helper()
	return start(t, func(d *Daemon) { d.action, d.gone = connectd.Allow, true })
}

// Stale starts a daemon whose policies would allow everything, and are older
// than decisions may be: every one is deny, policy_stale.
func Stale(t TB) *Daemon {
	t.Helper()
	return start(t, func(d *Daemon) { d.action, d.age = connectd.Allow, denyAfter+time.Hour })
}

// NotReady starts a daemon that has no material for any service.
func NotReady(t TB) *Daemon {
	t.Helper()
	return start(t, func(d *Daemon) { d.notReady = true })
}
