package socketapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/cache/devca"
	"github.com/connectd/connectd/intentions"
)

// full reports whether the large counts are asked for; `make admission` does.
func full() bool { return os.Getenv("CONNECTD_TEST_FULL") != "" }

func count(quick, whole int) int {
	if full() {
		return whole
	}
	return quick
}

type admitEveryone struct{}

func (admitEveryone) Admit(Peer, Grant, intentions.Service) bool { return true }

// serveRaw serves on a real socket and returns its path.
func serveRaw(t testing.TB, limits *Limits) string {
	t.Helper()
	authority, err := devca.New(devca.Config{})
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := cache.New(cache.Config{Source: authority})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "front")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := Listen(t.Context(), path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Cache: snapshots, Admission: admitEveryone{}, Limits: limits})
	ended := make(chan error)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return path
}

func dialRaw(t testing.TB, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// exchangeRaw sends bytes and returns all that comes until the connection is
// closed.
func exchangeRaw(t testing.TB, path, sent string) string {
	t.Helper()
	c := dialRaw(t, path)
	defer c.Close()
	_, _ = io.WriteString(c, sent)
	_ = c.(*net.UnixConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("%q: %v after %q", clip(sent), err, got)
	}
	return string(got)
}

const health = "GET /healthz HTTP/1.1\r\nHost: x\r\n"

// smuggled are requests that two readers would understand differently.
var smuggled = map[string]string{
	"te_and_cl":           "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"cl_and_te":           "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
	"cl_twice":            health + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
	"cl_list":             health + "Content-Length: 0, 0\r\n\r\n",
	"cl_sign":             health + "Content-Length: +0\r\n\r\n",
	"cl_hex":              health + "Content-Length: 0x0\r\n\r\n",
	"cl_empty":            health + "Content-Length:\r\n\r\n",
	"cl_huge":             health + "Content-Length: 9999999999999999\r\n\r\n",
	"te_twice":            health + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"te_identity":         health + "Transfer-Encoding: identity\r\n\r\n",
	"te_list":             health + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"te_obscured":         health + "Transfer-Encoding: xchunked\r\n\r\n",
	"te_space_name":       health + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"te_vertical_tab":     health + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
	"bare_lf":             "GET /healthz HTTP/1.1\nHost: x\n\n",
	"bare_lf_in_fields":   "GET /healthz HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
	"bare_lf_end":         "GET /healthz HTTP/1.1\r\nHost: x\r\n\n",
	"bare_cr":             "GET /healthz HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
	"folded":              health + "X: a\r\n b\r\n\r\n",
	"nul":                 health + "X: a\x00b\r\n\r\n",
	"no_colon":            health + "X\r\n\r\n",
	"empty_name":          health + ": x\r\n\r\n",
	"space_before_colon":  health + "X : y\r\n\r\n",
	"absolute":            "GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	"authority":           "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
	"asterisk":            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
	"http_1_0":            "GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n",
	"http_0_9":            "GET /healthz\r\n\r\n",
	"http_2":              "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"http_1_2":            "GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n",
	"no_host":             "GET /healthz HTTP/1.1\r\n\r\n",
	"host_twice":          health + "Host: x\r\n\r\n",
	"two_spaces":          "GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	"tab":                 "GET\t/healthz\tHTTP/1.1\r\nHost: x\r\n\r\n",
	"space_in_target":     "GET /healthz x HTTP/1.1\r\nHost: x\r\n\r\n",
	"non_ascii_target":    "GET /healthz\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n",
	"fragment":            "GET /healthz#x HTTP/1.1\r\nHost: x\r\n\r\n",
	"small_method":        "get /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	"empty_line_first":    "\r\n" + health + "\r\n",
	"large_head":          health + "X: " + strings.Repeat("a", 8<<10) + "\r\n\r\n",
	"many_fields":         health + strings.Repeat("X: y\r\n", 64) + "\r\n",
	"compressed":          health + "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
	"trailer":             health + "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"double_slash":        "GET //healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	"dots":                "GET /v1/../healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	"percent":             "GET /%68ealthz HTTP/1.1\r\nHost: x\r\n\r\n",
	"semicolon":           "GET /healthz;x HTTP/1.1\r\nHost: x\r\n\r\n",
	"backslash":           "GET /v1\\healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	"stand_in":            "GET /. HTTP/1.1\r\nHost: x\r\n\r\n",
	"chunk_extension":     "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
	"chunk_bare_lf":       "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
	"chunk_size_overflow": "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\nx",
	"chunk_longer":        "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
	"chunk_sign":          "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
	"chunk_trailers":      "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
	"body_cut":            "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
}

// TestFrontRefuses sends what nobody honest sends, with a whole request behind
// it that must never be answered.
func TestFrontRefuses(t *testing.T) {
	path := serveRaw(t, nil)
	for name, sent := range smuggled {
		t.Run(name, func(t *testing.T) {
			if name != "body_cut" {
				sent += health + "\r\n"
			}
			got := exchangeRaw(t, path, sent)
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Contains(got, `"live"`) || strings.Count(got, "\r\nDate: ") != 1 {
				t.Errorf("got %q, want one 400 and the end", got)
			}
		})
	}
}

// TestFrontHandsOn sends what stock clients send, in pieces of all sizes.
func TestFrontHandsOn(t *testing.T) {
	path := serveRaw(t, nil)
	requests := health + "\r\n" +
		"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" +
		"POST /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n" +
		"GET /healthz?index=1&wait=%35s HTTP/1.1\r\nHost:\r\nAccept: */*\r\nUser-Agent: \xc3\xa4\r\nContent-Length: 0\r\n\r\n" +
		"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for size := 1; size < 64; size++ {
		c := dialRaw(t, path)
		go func() {
			for rest := requests; rest != ""; {
				n := min(size, len(rest))
				_, _ = io.WriteString(c, rest[:n])
				rest = rest[n:]
			}
		}()
		r := bufio.NewReader(c)
		for i, want := range []int{200, 405, 405, 200, 200} {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("pieces of %d, answer %d: %v", size, i, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != want {
				t.Errorf("pieces of %d, answer %d: got %d, want %d", size, i, resp.StatusCode, want)
			}
		}
		c.Close()
	}
}

// TestFrontDropsTheSlow has senders that begin and do not go on. Others are
// answered meanwhile.
func TestFrontDropsTheSlow(t *testing.T) {
	path := serveRaw(t, nil)
	for name, sent := range map[string]string{
		"nothing": "", "head": "GET /healthz HT", "second_head": health + "\r\n" + "GET /he",
		"body":  "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
		"chunk": "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, path)
			defer c.Close()
			began := time.Now()
			_, _ = io.WriteString(c, sent)
			if _, err := io.ReadAll(c); err != nil && !errors.Is(err, unix.ECONNRESET) {
				t.Fatal(err)
			}
			if took := time.Since(began); took < time.Second || took > 4*time.Second {
				t.Errorf("the connection was ended after %s, want about 2 s", took)
			}
			if got := exchangeRaw(t, path, health+"Connection: close\r\n\r\n"); !strings.Contains(got, `"live"`) {
				t.Errorf("another client got %q", got)
			}
		})
	}
}

// TestFrontSurvivesMalformedRequests sends generated damage over the real
// socket and looks at memory.
func TestFrontSurvivesMalformedRequests(t *testing.T) {
	path := serveRaw(t, nil)
	total := count(5_000, 100_000)
	var seeds []string
	for _, s := range smuggled {
		seeds = append(seeds, s)
	}
	seeds = append(seeds, health+"\r\n", "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	r := rand.New(rand.NewPCG(1, 2))
	send := func(n int) {
		for range n {
			got := exchangeRaw(t, path, damaged(r, seeds))
			if got != "" && !strings.HasPrefix(got, "HTTP/1.1 ") {
				t.Fatalf("got %q", got)
			}
		}
	}
	send(total / 10)
	before := heap()
	send(total)
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("memory grew by %d bytes over %d malformed requests", grown, total)
	} else {
		t.Logf("%d malformed requests: memory changed by %d bytes", total, grown)
	}
	if got := exchangeRaw(t, path, health+"Connection: close\r\n\r\n"); !strings.Contains(got, `"live"`) {
		t.Errorf("afterwards: got %q", got)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// damaged cuts, changes, repeats and joins seeds.
func damaged(r *rand.Rand, seeds []string) string {
	b := []byte(seeds[r.IntN(len(seeds))])
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b))
		switch r.IntN(5) {
		case 0:
			b[at] = byte(r.IntN(256))
		case 1:
			b = append(b[:at], b[min(at+1+r.IntN(4), len(b)):]...)
		case 2:
			b = append(b[:at:at], append([]byte("\r\n \t:,;0\x00%/.\n"[r.IntN(12):]), b[at:]...)...)
		case 3:
			b = append(b, seeds[r.IntN(len(seeds))]...)
		case 4:
			b = b[:max(at, 1)]
		}
		if len(b) == 0 {
			b = []byte("\n")
		}
	}
	return string(b)
}

// FuzzFront compares the front with Go's own reader: whatever is handed on
// must be read as requests that end where the front says.
func FuzzFront(f *testing.F) {
	for _, s := range smuggled {
		f.Add([]byte(s), uint8(7))
	}
	f.Add([]byte(health+"\r\n"+health+"\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, sent []byte, size uint8) {
		in := bytes.NewReader(sent)
		refusals := 0
		front := &front{
			read:    func(p []byte) (int, error) { return in.Read(p[:min(len(p), int(size)+1)]) },
			waiting: func(bool) {}, refuse: func(string) { refusals++ },
		}
		out, err := io.ReadAll(front)
		if err != nil && !errors.Is(err, errFraming) {
			t.Fatal(err)
		}
		if refusals > 1 || refusals == 1 && !bytes.HasSuffix(out, []byte(standIn)) {
			t.Fatalf("%d refusals, and %q", refusals, out)
		}
		// Nothing is changed: what is handed on is the beginning of what came.
		if !bytes.HasPrefix(sent, out[:len(out)-refusals*len(standIn)]) {
			t.Fatalf("%q became %q", sent, out)
		}
		r := bufio.NewReader(bytes.NewReader(out))
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				break
			}
			if req.ProtoMinor != 1 || req.URL.Host != "" || len(req.TransferEncoding) > 0 && req.Header.Get("Content-Length") != "" {
				t.Fatalf("%q was handed on", out)
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				break
			}
		}
	})
}

func TestLimits(t *testing.T) {
	path := serveRaw(t, NewLimits(100, 20))
	var open []net.Conn
	for range 20 {
		c := dialRaw(t, path)
		defer c.Close()
		_, _ = io.WriteString(c, health+"\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if got := exchangeRaw(t, path, health+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 429 ") {
		t.Errorf("one too many: got %q", got)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(tooMany)), nil); err != nil || resp.ContentLength != int64(len(tooMany)-strings.Index(tooMany, "{")) {
		t.Errorf("the answer's length is wrong: %v %v", resp, err)
	}
	open[0].Close()
	for range 1000 {
		if got := exchangeRaw(t, path, health+"Connection: close\r\n\r\n"); strings.Contains(got, `"live"`) {
			return
		}
	}
	t.Error("a place that became free was not given away")
}

// TestAcceptPausesWithoutDescriptors takes all descriptors and gives them
// back.
func TestAcceptPausesWithoutDescriptors(t *testing.T) {
	path := serveRaw(t, nil)
	c := dialRaw(t, path)
	defer c.Close()
	_, _ = io.WriteString(c, health+"\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	late, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	none := before
	none.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	connecting := unix.Connect(late, &unix.SockaddrUnix{Name: path})
	_, writing := unix.Write(late, []byte(health+"Connection: close\r\n\r\n"))
	pause := time.NewTimer(50 * time.Millisecond)
	<-pause.C
	restoring := unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	if err := errors.Join(connecting, writing, restoring); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(late), "late")
	defer file.Close()
	got, err := io.ReadAll(file)
	if err != nil || !strings.Contains(string(got), `"live"`) {
		t.Errorf("got %q, %v once there are descriptors again", got, err)
	}
}
