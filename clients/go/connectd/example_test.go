package connectd_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/rpc"
	"os"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/clients/go/connectd/connectdtest"
	"github.com/connectd/connectd/intentions"
)

// example stands for the testing.T that an application's test has.
type example struct{ cleanups []func() }

func (e *example) Helper()                           {}
func (e *example) Cleanup(f func())                  { e.cleanups = append(e.cleanups, f) }
func (e *example) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (e *example) end() {
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return l
}

// A server that judges every request, and a client that finds it by name.
func ExampleHTTPServer() {
	t := &example{}
	defer t.end()
	daemon := connectdtest.Denied(t)
	daemon.Permit("web", "db", intentions.Permission{
		Action: "allow", Methods: []string{"GET"}, Path: &intentions.PathMatch{Match: "prefix", Value: "/v1/"},
	})
	db, web := daemon.Source("db"), daemon.Source("web")

	l := listen()
	server := connectd.HTTPServer(db, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "rows")
	}))
	ended := make(chan error)
	go func() { ended <- server.Serve(l) }()
	defer func() { _ = server.Close(); <-ended }()
	daemon.Register("db", l.Addr())

	client := connectd.HTTPClient(web)
	defer client.CloseIdleConnections()
	for _, path := range []string{"/v1/rows", "/admin"} {
		resp, err := client.Get("https://db.service.consul" + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = resp.Body.Close()
		fmt.Println(path, resp.Status)
	}
	// Output:
	// /v1/rows 200 OK
	// /admin 403 Forbidden
}

// Echo is a service of net/rpc.
type Echo struct{}

// Say returns what it is told.
func (Echo) Say(in string, out *string) error {
	*out = in
	return nil
}

// Any protocol over a listener and a dialer: here net/rpc.
func ExampleListen() {
	t := &example{}
	defer t.end()
	daemon := connectdtest.Denied(t)
	daemon.Allow("web", "db")
	db, web := daemon.Source("db"), daemon.Source("web")

	inner := listen()
	daemon.Register("db", inner.Addr())
	server := rpc.NewServer()
	if err := server.Register(Echo{}); err != nil {
		fmt.Println(err)
		return
	}
	l := connectd.Listen(db, inner)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if conn, err := l.Accept(); err == nil {
			server.ServeConn(conn)
		}
	}()
	defer func() { _ = l.Close(); <-served }()

	conn, err := connectd.NewDialer(web).DialContext(context.Background(), "db")
	if err != nil {
		fmt.Println(err)
		return
	}
	client := rpc.NewClient(conn)
	defer client.Close()
	var answer string
	fmt.Println(client.Call("Echo.Say", "hello", &answer), answer)
	// Output: <nil> hello
}

// A decision on anything that has a SPIFFE ID.
func ExampleSnapshot_Decide() {
	t := &example{}
	defer t.end()
	daemon := connectdtest.Denied(t)
	daemon.Allow("web", "db")
	snapshot := daemon.Source("db").Snapshot()
	for _, source := range []string{"web", "cart"} {
		d := snapshot.Decide(connectdtest.ID(source), nil)
		fmt.Println(source, d.Decision, d.Reason)
	}
	// Output:
	// web allow intention
	// cart deny default_action
}

// What was closed, and why.
func ExampleOnRevoked() {
	source, err := connectd.OpenSource("db",
		connectd.WithConfig(connectd.Config{Socket: "/nowhere/connectd.sock"}),
		connectd.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		connectd.OnRevoked(func(p connectd.Peer, reason string) { fmt.Fprintln(os.Stderr, p.ID, reason) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()
	fmt.Println(source.Snapshot().Decide(connectdtest.ID("web"), nil).Reason)
	// Output: not_ready
}
