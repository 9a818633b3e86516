package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// httpCaller speaks just enough HTTP/1.1 that the time it measures is the time
// of the server: a full client would add the same large sum to every peer, and
// so hide differences.
type httpCaller struct {
	conn    net.Conn
	r       *bufio.Reader
	request []byte
	body    []byte
}

func dialHTTP(ctx context.Context, socket, path, body string) (caller, error) {
	conn, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, len(body), body)
	return &httpCaller{conn: conn, r: bufio.NewReader(conn), request: []byte(request)}, nil
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", socket)
}

func (c *httpCaller) Close() error { return c.conn.Close() }

func (c *httpCaller) ask() ([]byte, error) {
	if _, err := c.conn.Write(c.request); err != nil {
		return nil, err
	}
	status, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	good := bytes.HasPrefix(status, []byte("HTTP/1.1 200 "))
	line := string(bytes.TrimSpace(status))
	length, err := c.readHeader()
	if err != nil {
		return nil, err
	}
	c.body = append(c.body[:0], make([]byte, length)...)
	if _, err := io.ReadFull(c.r, c.body); err != nil {
		return nil, err
	}
	if !good {
		return nil, fmt.Errorf("%s: %s", line, c.body)
	}
	return c.body, nil
}

var (
	lengthHeader = []byte("content-length:")
	errNoLength  = errors.New("an answer without Content-Length")
)

// readHeader reads up to the body and returns its length.
func (c *httpCaller) readHeader() (int, error) {
	length := -1
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if len(line) > len(lengthHeader) && bytes.EqualFold(line[:len(lengthHeader)], lengthHeader) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(lengthHeader):]))); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errNoLength
	}
	return length, nil
}

// echoCaller sends a frame, its length before it, and reads it back.
type echoCaller struct {
	conn  net.Conn
	frame []byte
	back  []byte
}

// frameHead is the size of a frame's length.
const frameHead = 4

func dialEcho(ctx context.Context, socket, text string) (caller, error) {
	conn, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	frame = append(frame, text...)
	return &echoCaller{conn: conn, frame: frame, back: make([]byte, len(frame))}, nil
}

func (c *echoCaller) Close() error { return c.conn.Close() }

func (c *echoCaller) ask() ([]byte, error) {
	if _, err := c.conn.Write(c.frame); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c.conn, c.back); err != nil {
		return nil, err
	}
	return c.back[frameHead:], nil
}
