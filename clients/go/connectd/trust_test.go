package connectd

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// place describes directories for trust.look.
type place map[string]owner

func (p place) look(path string) (owner, error) {
	o, ok := p[path]
	if !ok {
		return owner{}, fs.ErrNotExist
	}
	return o, nil
}

func TestWhoseDaemonIsTrusted(t *testing.T) {
	const own, daemon, other = 1000, 990, 1001
	root := owner{mode: 0o755 | fs.ModeDir}
	// The directory itself must exist, because links in it are followed.
	dir := "/usr/bin"
	given := place{"/": root, "/usr": root, dir: {uid: daemon, mode: 0o750 | fs.ModeDir}}
	with := func(path string, o owner) place {
		changed := place{}
		for k, v := range given {
			changed[k] = v
		}
		changed[path] = o
		return changed
	}
	chosen := uint32(other)
	for _, tt := range []struct {
		name   string
		uid    uint32
		place  place
		chosen *uint32
		want   bool
	}{
		{"root", 0, nil, nil, true},
		{"ourselves", own, nil, nil, true},
		{"owner_of_directory", daemon, given, nil, true},
		{"somebody", other, given, nil, false},
		{"no_directory", daemon, place{}, nil, false},
		{"parent_of_another", daemon, with("/usr", owner{uid: daemon, mode: 0o755}), nil, false},
		{"parent_writable_by_group", daemon, with("/usr", owner{mode: 0o775}), nil, false},
		{"parent_writable_by_all", daemon, with("/usr", owner{mode: 0o777 | fs.ModeSticky}), nil, false},
		{"top_writable", daemon, with("/", owner{mode: 0o777}), nil, false},
		{"nobody_in_particular", overflowUID, with(dir, owner{uid: overflowUID, mode: 0o755}), nil, false},
		{"chosen", other, given, &chosen, true},
		{"chosen_is_another", daemon, given, &chosen, false},
		{"chosen_and_root", 0, given, &chosen, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trust := trust{own: own, chosen: tt.chosen, look: tt.place.look}
			if got := trust.accepts(dir+"/connectd.sock", tt.uid); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

func TestLinksAreFollowed(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	p := place{real: {uid: 990}, link: {uid: 990}}
	for up := dir; ; up = filepath.Dir(up) {
		p[up] = owner{}
		if up == filepath.Dir(up) {
			break
		}
	}
	trust := trust{own: 1000, look: p.look}
	if !trust.accepts(link+"/s", 990) {
		t.Error("a link in a place of root's is refused")
	}
	p[real] = owner{uid: 991}
	if trust.accepts(link+"/s", 990) {
		t.Error("the directory behind the link belongs to another, and is trusted")
	}
}

func TestUnreachableSaysWhatToDo(t *testing.T) {
	dead := socketPath(t)
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	for _, tt := range []struct{ name, socket, want string }{
		{"absent", socketPath(t), "is the daemon running"},
		{"dead", dead, "nobody listens"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := clientOf(t, tt.socket).Health(t.Context())
			e := asError(t, err)
			if e.Code != CodeUnreachable || !strings.Contains(e.Message, tt.want) || !strings.Contains(e.Message, tt.socket) {
				t.Errorf("got %+v", e)
			}
		})
	}
	denied := unreachable(dead, &net.OpError{Op: "dial", Err: os.ErrPermission})
	if !strings.Contains(denied.Message, "permission denied") || !strings.Contains(denied.Message, "group") {
		t.Errorf("got %+v", denied)
	}
	if !errors.Is(denied, fs.ErrPermission) {
		t.Errorf("got %v, want the system's error inside", denied)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct{ name, socket, trust, want string }{
		{"long_path", "/" + strings.Repeat("x", 200), "", "shorter"},
		{"abstract", "@connectd", "", "abstract"},
		{"trust_uid", "/x", "root", "numeric"},
		{"good", "/x", "5", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(EnvTrustUID, tt.trust)
			_, err := NewClient(Config{Socket: tt.socket})
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSocketFromTheEnvironment(t *testing.T) {
	t.Setenv(EnvSocket, "")
	c, err := NewClient(Config{})
	if err != nil || c.Socket() != DefaultSocket {
		t.Errorf("got %s and %v", c.Socket(), err)
	}
	t.Setenv(EnvSocket, "/elsewhere")
	if c, err = NewClient(Config{}); err != nil || c.Socket() != "/elsewhere" {
		t.Errorf("got %s and %v", c.Socket(), err)
	}
}
