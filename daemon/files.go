package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// confDir is the directory beside the file whose files are read after it.
const confDir = "conf.d"

// maxConfigBytes bounds one file.
const maxConfigBytes = 1 << 20

// LoadConfig reads and checks a file and, in the order of their names, those
// of conf.d beside it. Errors point at the line.
func LoadConfig(path string) (Config, error) {
	source, err := readTrusted(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	a := newAssembly()
	problems := []error{a.add(path, source)}
	more, err := filesOf(filepath.Join(filepath.Dir(path), confDir))
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	for _, file := range more {
		source, err := readTrusted(file)
		if err == nil {
			err = a.add(file, source)
		}
		problems = append(problems, err)
	}
	return a.done(path, problems...)
}

// ParseConfig checks the text of a file; name appears in errors.
func ParseConfig(name string, source []byte) (Config, error) {
	a := newAssembly()
	return a.done(name, a.add(name, source))
}

// assembly is a configuration that is put together from files.
type assembly struct {
	config Config
	// blocks and services say which file has what.
	blocks   map[string]string
	services map[string]string
	// paths are those of services' own sockets.
	paths map[string]bool
}

func newAssembly() *assembly {
	return &assembly{config: DefaultConfig(), blocks: map[string]string{}, services: map[string]string{}, paths: map[string]bool{}}
}

// done returns the whole, or every problem.
func (a *assembly) done(name string, problems ...error) (Config, error) {
	err := errors.Join(problems...)
	if err == nil {
		err = a.config.checkPaths()
		if err != nil {
			err = fmt.Errorf("configuration %s: %w", name, err)
		}
	}
	if err != nil {
		return Config{}, err
	}
	return a.config, nil
}

// add reads one file on top of those before it.
func (a *assembly) add(name string, source []byte) error {
	file, diags := hclparse.NewParser().ParseHCL(source, name)
	var shape fileShape
	if !diags.HasErrors() {
		diags = append(diags, gohcl.DecodeBody(file.Body, nil, &shape)...)
	}
	if diags.HasErrors() {
		return diagnosticError(diags)
	}
	c := &a.config
	if shape.Consul != nil {
		c.Consul = *shape.Consul
	}
	if shape.Log != nil {
		c.LogJSON = shape.Log.JSON
		if shape.Log.Level != "" {
			c.LogLevel = shape.Log.Level
		}
	}
	err := errors.Join(
		a.claim(name, &shape),
		c.Socket.apply(shape.Socket, "socket"),
		c.Admin.apply(shape.Admin, "admin"),
		c.applyStore(shape.Store),
		c.applyPolicy(shape.Policy),
		a.applyServices(name, shape.Services),
		c.checkAdmin(),
		c.checkConsul(),
		c.checkLog(),
	)
	if err != nil {
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	return nil
}

// claim refuses a block that another file has: which of them would hold is
// not for the order of names to say.
func (a *assembly) claim(file string, shape *fileShape) error {
	var problems []error
	for _, block := range []struct {
		name  string
		there bool
	}{
		{"consul", shape.Consul != nil}, {"socket", shape.Socket != nil}, {"admin", shape.Admin != nil},
		{"store", shape.Store != nil}, {"policy", shape.Policy != nil}, {"log", shape.Log != nil},
	} {
		if !block.there {
			continue
		}
		if other := a.blocks[block.name]; other != "" {
			problems = append(problems, fmt.Errorf("%s has a %s block too; keep one", other, block.name))
		}
		a.blocks[block.name] = file
	}
	return errors.Join(problems...)
}

// filesOf lists the files of a conf.d that count, in the order of their names.
func filesOf(dir string) ([]string, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := trusted(dir, info); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") {
			out = append(out, filepath.Join(dir, name))
		}
	}
	slices.Sort(out)
	return out, nil
}

// readTrusted reads a file that only root and the daemon's user can write.
// What is looked at is what is read.
func readTrusted(path string) ([]byte, error) {
	// A pipe in the place of the file must not make us wait.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if err := trusted(path, info); err != nil {
		return nil, err
	}
	source, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err == nil && len(source) > maxConfigBytes {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxConfigBytes)
	}
	return source, err
}

// trusted refuses what others could write: they would decide who gets keys.
func trusted(path string, info fs.FileInfo) error {
	switch {
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s has mode %s and can be written by others; chmod go-w %s", path, modeText(info.Mode().Perm()), path)
	case !ownedByUs(info) && !ownedByRoot(info):
		return fmt.Errorf("%s belongs to another user than root and the daemon's own; chown root %s", path, path)
	}
	return nil
}
