package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// consulModule is both the module and the main package of Consul.
const consulModule = "github.com/hashicorp/consul"

// Consul returns the path of a Consul binary: the one that CONNECTD_TEST_CONSUL names, or
// the version that the nested module requires, compiled on first use. Progress is
// written to w, because the first build takes minutes.
func Consul(ctx context.Context, w io.Writer) (string, error) {
	if path := os.Getenv("CONNECTD_TEST_CONSUL"); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("CONNECTD_TEST_CONSUL: %w", err)
		}
		return filepath.Abs(found)
	}
	dir, err := moduleDir()
	if err != nil {
		return "", err
	}
	version, err := consulVersion(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	return compile(ctx, w, program{
		dir:     dir,
		pkg:     consulModule,
		name:    "consul-" + version,
		sources: []string{"go.mod", "go.sum"},
	})
}

// SDKApp returns the path of sdkapp, the program that uses Consul's own SDK.
func SDKApp(ctx context.Context, w io.Writer) (string, error) {
	dir, err := moduleDir()
	if err != nil {
		return "", err
	}
	sources, err := filepath.Glob(filepath.Join(dir, "sdkapp", "*.go"))
	if err != nil {
		return "", err
	}
	for i, path := range sources {
		sources[i] = filepath.Join("sdkapp", filepath.Base(path))
	}
	return compile(ctx, w, program{
		dir:     dir,
		pkg:     "./sdkapp",
		name:    "sdkapp",
		sources: append([]string{"go.mod", "go.sum"}, sources...),
	})
}

// A program is what compile needs to know; the sources decide when it is built again.
type program struct {
	dir, pkg, name string
	sources        []string
}

// compile returns the path of the built program. The lock is held while building because
// `go test ./...` runs one process per package and one build uses every core; the
// temporary name is there because the lock ends with a killed process and half a binary
// does not.
func compile(ctx context.Context, w io.Writer, p program) (string, error) {
	path, err := p.path()
	if err != nil {
		return "", err
	}
	if exists(path) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return "", fmt.Errorf("waiting for another build of %s: %w", p.name, err)
	}
	defer unlock()
	if exists(path) {
		return path, nil
	}
	fmt.Fprintf(w, "consultest: building %s; without a build cache this takes about four minutes\n", p.name)
	if err := p.build(ctx, path+".tmp"); err != nil {
		return "", err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return "", err
	}
	fmt.Fprintf(w, "consultest: built %s\n", path)
	return path, nil
}

// path is the place of the binary in the user's cache, named after everything that shapes it.
func (p program) path() (string, error) {
	cacheDir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	slices.Sort(p.sources)
	for _, source := range p.sources {
		content, err := os.ReadFile(filepath.Join(p.dir, source))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", source, len(content), content)
	}
	key := hex.EncodeToString(h.Sum(nil))[:12]
	file := strings.Join([]string{p.name, runtime.GOOS, runtime.GOARCH, key}, "-")
	return filepath.Join(cacheDir, "connectd-test", file), nil
}

// build runs the go command in the nested module. Symbol tables are left out: they are
// most of the time and size of linking Consul, and stack traces do not need them.
func (p program) build(ctx context.Context, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", out, p.pkg)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(),
		"CGO_ENABLED=0", "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s in %s: %w\n%s", p.pkg, p.dir, err, output)
	}
	return nil
}

// moduleDir finds the nested module beside this source file. A nested module is not part
// of the root module's archive, so there is nothing to find outside a checkout.
func moduleDir() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", errors.New("the source directory is unknown: run the tests without -trimpath")
	}
	dir := filepath.Join(filepath.Dir(file), "..", "..", "sdk")
	if !exists(filepath.Join(dir, "go.mod")) {
		return "", fmt.Errorf("no nested module at %s: tests with Consul need a checkout", dir)
	}
	return dir, nil
}

// consulVersion reads the required version, so that it is written in one place only.
func consulVersion(goMod string) (string, error) {
	content, err := os.ReadFile(goMod)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(strings.TrimPrefix(line, "require"))
		if len(fields) >= 2 && fields[0] == consulModule {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", goMod, consulModule)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
