package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/connectd/connectd/daemon"
)

// What a child process can serve.
const (
	serveDaemon = "connectd"
	serveHTTP   = "http"
	serveEcho   = "echo"
)

// readyLine is what a child prints once it accepts connections.
const readyLine = "ready"

// newServe is the command of the child processes: each peer has its own, so
// that none shares a scheduler or a heap with the caller.
func newServe() *cobra.Command {
	var socket, answer string
	cmd := &cobra.Command{
		Use: "serve", Hidden: true, Args: cobra.ExactArgs(1),
		ValidArgs: []string{serveDaemon, serveHTTP, serveEcho},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := context.WithCancel(cmd.Context())
			defer stop()
			// The parent holds the other end, so no child outlives it.
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin)
				stop()
			}()
			ready := func() { fmt.Fprintln(cmd.OutOrStdout(), readyLine) }
			if args[0] == serveDaemon {
				return daemon.Dev(ctx, daemon.DevOptions{Socket: socket, Options: daemon.Options{Ready: ready}})
			}
			l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
			if err != nil {
				return err
			}
			context.AfterFunc(ctx, func() { _ = l.Close() })
			ready()
			if args[0] == serveHTTP {
				return ended(serveBareHTTP(l, []byte(answer)))
			}
			return ended(serveFrames(l))
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "where to listen")
	cmd.Flags().StringVar(&answer, "answer", "", "what the bare HTTP server answers")
	return cmd
}

// ended forgives the error of a listener that was closed on purpose.
func ended(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// serveBareHTTP is the least that an HTTP server in Go can do for a question:
// it reads the body and answers the same bytes each time.
func serveBareHTTP(l net.Listener, answer []byte) error {
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.ReadAll(req.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
}

// serveFrames sends every frame back.
func serveFrames(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = echo(conn)
		}()
	}
}

const maxFrame = 64 << 10

func echo(conn net.Conn) error {
	buffer := make([]byte, frameHead+maxFrame)
	filled := 0
	for {
		n, err := conn.Read(buffer[filled:])
		if err != nil {
			return err
		}
		filled += n
		if filled < frameHead {
			continue
		}
		length := frameHead + int(binary.BigEndian.Uint32(buffer))
		if length > len(buffer) {
			return errors.New("frame is too long")
		}
		if filled < length {
			continue
		}
		// One frame is under way at a time.
		if _, err := conn.Write(buffer[:length]); err != nil {
			return err
		}
		filled = 0
	}
}
