package socketapi

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// layout puts something hostile in the way of a socket. kept is what must be
// there afterwards, as it was.
type layout struct {
	name string
	make func(dir, path string) (kept string, err error)
	// serves is true where the daemon may take the place.
	serves bool
}

const stranger = 4321

var layouts = []layout{
	{"empty", func(string, string) (string, error) { return "", nil }, true},
	{"file", func(_, path string) (string, error) { return path, os.WriteFile(path, []byte("x"), 0o600) }, false},
	{"directory", func(_, path string) (string, error) { return path, os.Mkdir(path, 0o700) }, false},
	{"pipe", func(_, path string) (string, error) { return path, unix.Mkfifo(path, 0o600) }, false},
	{"link_to_file", func(dir, path string) (string, error) {
		target := filepath.Join(dir, "target")
		return target, errors.Join(os.WriteFile(target, []byte("x"), 0o600), os.Symlink(target, path))
	}, false},
	{"link_to_directory", func(dir, path string) (string, error) { return path, os.Symlink(dir, path) }, false},
	{"dangling_link", func(_, path string) (string, error) { return path, os.Symlink("/nowhere/s", path) }, false},
	{"foreign_directory", func(dir, _ string) (string, error) { return dir, os.Chown(dir, stranger, stranger) }, false},
	{"writable_directory", func(dir, _ string) (string, error) { return dir, os.Chmod(dir, 0o777) }, false},
	{"group_writable", func(dir, _ string) (string, error) { return dir, os.Chmod(dir, 0o775) }, false},
	{"sticky_directory", func(dir, _ string) (string, error) { return dir, os.Chmod(dir, 0o777|os.ModeSticky) }, false},
	{"foreign_link_above", func(dir, _ string) (string, error) {
		return dir, errors.Join(os.Remove(dir), os.Symlink(os.TempDir(), dir), os.Lchown(dir, stranger, stranger))
	}, false},
	{"link_as_lock", func(dir, path string) (string, error) {
		target := filepath.Join(dir, "target")
		return target, errors.Join(os.WriteFile(target, nil, 0o600), os.Symlink(target, path+".lock"))
	}, false},
	{"foreign_lock", func(_, path string) (string, error) {
		return path + ".lock", errors.Join(os.WriteFile(path+".lock", nil, 0o666), os.Chown(path+".lock", stranger, stranger))
	}, false},
	{"pipe_as_lock", func(_, path string) (string, error) { return path + ".lock", unix.Mkfifo(path+".lock", 0o600) }, false},
	{"dead_socket", func(_, path string) (string, error) {
		l, err := net.Listen("unix", path)
		if err == nil {
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			err = l.Close()
		}
		return "", err
	}, true},
}

// TestHostileLayouts tries every layout in turn, and then many at random: no
// stranger's place is used, and nothing of another's is removed.
func TestHostileLayouts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of others")
	}
	r := rand.New(rand.NewPCG(3, 4))
	total := max(count(100, 1_000), len(layouts))
	base, err := os.MkdirTemp("", "place")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	for i := range total {
		x := layouts[i%len(layouts)]
		if i >= len(layouts) {
			x = layouts[r.IntN(len(layouts))]
		}
		dir := filepath.Join(base, "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		x.try(t, dir, filepath.Join(dir, "s"))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d hostile layouts: nothing foreign was used or removed", total)
}

func (x layout) try(t *testing.T, dir, path string) {
	t.Helper()
	kept, err := x.make(dir, path)
	if err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
	var before os.FileInfo
	if kept != "" {
		if before, err = os.Lstat(kept); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Listen(t.Context(), path, 0o600, -1)
	if (err == nil) != x.serves {
		t.Errorf("%s: got %v, want served %v", x.name, err, x.serves)
	}
	if l != nil {
		_ = l.Close()
	}
	if before == nil {
		return
	}
	if after, err := os.Lstat(kept); err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
		t.Errorf("%s: %s is not what it was: %v", x.name, kept, err)
	}
}

func TestSecondListenerTouchesNothing(t *testing.T) {
	dir, err := os.MkdirTemp("", "second")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	first, err := Listen(t.Context(), path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.Lstat(path)
	if _, err := Listen(t.Context(), path, 0o666, -1); !errors.Is(err, ErrServed) {
		t.Errorf("got %v, want ErrServed", err)
	}
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) || after.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want the first one's node", after, err)
	}
	// A node that took the path is another's, and stays.
	if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600), first.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("another's file was removed: %v", err)
	}
}
