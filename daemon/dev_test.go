package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func gidOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Gid
}

func TestDevPrivateDirectory(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(dir string) error
		good    bool
	}{
		{"absent", func(string) error { return nil }, true},
		{"private", func(dir string) error { return os.Mkdir(dir, 0o700) }, true},
		{"open-to-others", func(dir string) error { return os.Mkdir(dir, 0o755) }, false},
		{"not-ours-to-write", func(dir string) error { return os.Mkdir(dir, 0o500) }, false},
		{"file", func(dir string) error { return os.WriteFile(dir, nil, 0o700) }, false},
		{"link", func(dir string) error {
			if err := os.Mkdir(dir+"-target", 0o700); err != nil {
				return err
			}
			return os.Symlink(dir+"-target", dir)
		}, false},
		{"dangling-link", func(dir string) error { return os.Symlink(dir+"-nowhere", dir) }, false},
		{"anothers", func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chown(dir, os.Geteuid()+1000, -1)
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "anothers" && os.Geteuid() != 0 {
				t.Skip("only root can give a directory away")
			}
			dir := filepath.Join(t.TempDir(), "connectd-dev")
			if err := tt.prepare(dir); err != nil {
				t.Fatal(err)
			}
			err := privateDevDir(dir)
			if got := err == nil; got != tt.good {
				t.Errorf("got %v, want good %v", err, tt.good)
			}
			if err == nil {
				if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
					t.Errorf("got %v, %v; want mode 0700", info, err)
				}
			}
		})
	}
}

func TestDevPaths(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1000")
	if got, want := DevSocket(), "/run/user/1000/connectd-dev/connectd.sock"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", "/tmp/x")
	if got := DevDir(); !strings.HasPrefix(got, "/tmp/x/connectd-dev-") {
		t.Errorf("got %s, want a directory of this user's", got)
	}
}

// TestDevRunsInItsOwnDirectory starts a development daemon where a newcomer
// would, and looks at what it leaves.
func TestDevRunsInItsOwnDirectory(t *testing.T) {
	dir, err := os.MkdirTemp("", "dev")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := false
	err = Dev(ctx, DevOptions{Options: Options{Ready: func() {
		started = true
		for path, want := range map[string]os.FileMode{DevDir(): 0o700, DevSocket(): 0o600, filepath.Join(DevDir(), adminName): 0o600} {
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: got %v, %v; want mode %04o", path, info, err, want)
			}
		}
		cancel()
	}}})
	if err != nil || !started {
		t.Errorf("got %v, started %v", err, started)
	}
	// The locks stay: whoever removed one could let two daemons in.
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	left = slices.DeleteFunc(left, func(path string) bool { return strings.HasSuffix(path, ".lock") })
	if err != nil || len(left) > 0 {
		t.Errorf("got %v left behind, want nothing but locks", left)
	}
	if stores, _ := filepath.Glob(filepath.Join(dir, "connectd-dev-store-*")); len(stores) > 0 {
		t.Errorf("got %v left behind, want no store", stores)
	}
}

func TestDevRefusesAnothersDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if err := os.Mkdir(DevDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Dev(t.Context(), DevOptions{}); err == nil || !strings.Contains(err.Error(), "--socket") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}
