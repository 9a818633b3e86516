package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestConsulNamedByEnvironment(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONNECTD_TEST_CONSUL", exe)
	if got, err := Consul(t.Context(), t.Output()); err != nil || got != exe {
		t.Errorf("got %q, %v, want %q", got, err, exe)
	}
	t.Setenv("CONNECTD_TEST_CONSUL", filepath.Join(t.TempDir(), "absent"))
	if got, err := Consul(t.Context(), t.Output()); err == nil {
		t.Errorf("got %q, want an error for an absent binary", got)
	}
}

func TestConsulVersion(t *testing.T) {
	dir, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	got, err := consulVersion(filepath.Join(dir, "go.mod"))
	if want := "v1.22.5"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestPathFollowsSources(t *testing.T) {
	p := program{dir: t.TempDir(), name: "x", sources: []string{"go.mod"}}
	var paths [2]string
	for i, content := range []string{"module a", "module b"} {
		if err := os.WriteFile(filepath.Join(p.dir, "go.mod"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		path, err := p.path()
		if err != nil {
			t.Fatal(err)
		}
		paths[i] = path
	}
	if paths[0] == paths[1] {
		t.Errorf("both contents give %q", paths[0])
	}
}

func TestLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: got %v, want deadline exceeded", err)
	}
	unlock()
	unlock, err = lock(t.Context(), path)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	unlock()
}
