package socketapi

import (
	"bytes"
	"errors"
	"io"
)

// front stands between a connection and Go's HTTP server, which tolerates
// what two readers could understand differently: it hands on only requests
// with one meaning. In the place of any other it hands on one for a path that
// nothing is served under, so that the refusal is sent in its turn.
type front struct {
	read func([]byte) (int, error)
	// waiting is told when a head has begun and when it is whole.
	waiting func(begun bool)
	// refuse is told why before the stand-in is handed on.
	refuse func(problem string)

	in  []byte // read and not yet judged
	out []byte // judged and not yet handed on; a part of in's array
	// looked is how much of an incomplete head was searched.
	looked int
	begun  bool
	ended  bool
	state  frontState
	left   int64
}

type frontState int

const (
	inHead frontState = iota
	inBody
	inChunkSize
	inChunk
	inChunkEnd
	inLastChunk
)

// refusedPath is what stands for a request that was refused. A client that
// asks for it is refused as well.
const refusedPath = "/."

const standIn = "GET " + refusedPath + " HTTP/1.1\r\nHost: connectd\r\nConnection: close\r\n\r\n"

// errFraming ends a connection whose body cannot be followed.
var errFraming = errors.New("the body is not framed as its head says")

// Read hands on what was judged.
func (f *front) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if len(f.out) > 0 {
			n := copy(p, f.out)
			f.out = f.out[n:]
			return n, nil
		}
		if f.ended {
			return 0, io.EOF
		}
		if err := f.advance(); err != nil {
			return 0, err
		}
	}
}

// advance judges what is there, or reads more. Nothing is left in out when it
// is called.
func (f *front) advance() error {
	if f.state == inHead {
		return f.advanceHead()
	}
	if len(f.in) == 0 {
		return f.fill()
	}
	switch f.state {
	case inBody:
		if f.pass(); f.left == 0 {
			f.state = inHead
		}
	case inChunk:
		if f.pass(); f.left == 0 {
			f.state = inChunkEnd
		}
	case inChunkSize:
		return f.line(10, func(line []byte) bool {
			size, ok := chunkSize(line)
			f.left, f.state = size, inChunk
			if size == 0 {
				f.state = inLastChunk
			}
			return ok
		})
	case inChunkEnd:
		return f.line(2, func(line []byte) bool { f.state = inChunkSize; return len(line) == 0 })
	case inLastChunk:
		return f.line(2, func(line []byte) bool { f.state = inHead; return len(line) == 0 })
	}
	return nil
}

// pass hands on bytes of a body.
func (f *front) pass() {
	n := int(min(f.left, int64(len(f.in))))
	f.left -= int64(n)
	f.hand(n)
}

// hand moves the first bytes from in to out.
func (f *front) hand(n int) { f.out, f.in = f.in[:n], f.in[n:] }

// line hands on one line of at most so many bytes, its end included, if it is
// as it should be.
func (f *front) line(most int, good func([]byte) bool) error {
	i := bytes.IndexByte(f.in, '\n')
	if i < 0 && len(f.in) < most {
		return f.fill()
	}
	if i < 1 || i >= most || f.in[i-1] != '\r' || !good(f.in[:i-1]) {
		f.ended = true
		return errFraming
	}
	f.hand(i + 1)
	return nil
}

func (f *front) advanceHead() error {
	end, problem := headEnd(f.in, f.looked)
	if problem == "" && (end > maxHeadBytes || end < 0 && len(f.in) > maxHeadBytes) {
		problem = "the head is larger than 8 KiB"
	}
	if problem == "" && end < 0 {
		f.looked = len(f.in)
		if f.begun != (len(f.in) > 0) {
			f.begun = !f.begun
			f.waiting(true)
		}
		return f.fill()
	}
	var body framing
	if problem == "" {
		body, problem = judgeHead(f.in[:end])
	}
	if f.begun {
		f.begun = false
		f.waiting(false)
	}
	f.looked = 0
	if problem != "" {
		f.refuse(problem)
		f.in, f.out, f.ended = nil, []byte(standIn), true
		return nil
	}
	f.hand(end)
	f.left = body.length
	switch {
	case body.chunked:
		f.state = inChunkSize
	case body.length > 0:
		f.state = inBody
	}
	return nil
}

// firstRead is enough for most heads; one connection that waits holds no more.
const firstRead = 1 << 10

// fill reads more behind what is not judged yet.
func (f *front) fill() error {
	if len(f.in) == 0 && cap(f.in) < firstRead/2 {
		f.in = make([]byte, 0, firstRead)
	}
	if len(f.in) == cap(f.in) {
		f.in = append(make([]byte, 0, 2*cap(f.in)+firstRead), f.in...)
	}
	n, err := f.read(f.in[len(f.in):cap(f.in)])
	f.in = f.in[:len(f.in)+n]
	if n > 0 {
		return nil
	}
	return err
}
