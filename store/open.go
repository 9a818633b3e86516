package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Config is what a store needs. It is copied.
type Config struct {
	// Dir is created (0700) if it does not exist.
	Dir    string
	Key    KeySource
	Logger hclog.Logger
}

// Opening says what was found. It is for people and for tests.
type Opening struct {
	// From is the file whose records are served; empty if there is none.
	From    string
	Records int
	// SetAside names the damaged files that were moved away.
	SetAside []string
	Took     time.Duration
}

// Open opens the store. It fails where another process holds it and where the
// directory cannot be made or is open to others. Whatever else is wrong, the
// store comes up with the records that could be read, possibly none, and
// Problem or Commit says what is wrong: a daemon serves from memory then.
func Open(cfg Config) (*Store, error) { return open(cfg, false) }

// open opens the store; anyForm accepts a file whose protection is not the
// configured one, which only an operator may ask for.
func open(cfg Config, anyForm bool) (*Store, error) {
	began := time.Now()
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	dir, err := enter(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		cfg: cfg, logger: cfg.Logger.Named("store"), dir: dir, anyForm: anyForm,
		changed: make(chan struct{}, 1),
	}
	s.class, s.keyPath = KeyOff, ""
	if !cfg.Key.Off {
		s.class, s.keyPath = cfg.Key.locate(cfg.Dir)
	}
	switch err := s.recall(); {
	case errors.Is(err, ErrLocked):
		_ = dir.close()
		return nil, fmt.Errorf("open store: %w", err)
	case err != nil:
		s.refusal = err
		s.logger.Error("the store is left untouched, serving from memory only", "error", err)
	}
	s.opening.Records, s.opening.Took = count(s.values), time.Since(began)
	s.logger.Info("store opened", "file", s.opening.From, "records", s.opening.Records,
		"key", s.class, "took", s.opening.Took.Round(100*time.Microsecond))
	return s, nil
}

// recall reads the file, or the copy where the file is damaged.
func (s *Store) recall() error {
	keys, keyErr := s.keys()
	for _, name := range []string{fileName, previousName} {
		c, err := s.read(name, keys)
		switch {
		case err == nil:
			return s.adopt(name, c)
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, ErrDamaged):
			s.setAside(name, err)
		case errors.Is(err, ErrKey):
			return errors.Join(err, keyErr)
		default:
			return err
		}
	}
	return nil
}

func (s *Store) read(name string, keys []*kek) (*content, error) {
	raw, err := examine(s.dir.join(name))
	if err != nil {
		return nil, err
	}
	c, err := judge(raw, keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// setAside moves a damaged file away, now or, where the disk does not let it,
// before the first write.
func (s *Store) setAside(name string, why error) {
	as, err := s.dir.setAside(name)
	if err != nil {
		s.inTheWay = append(s.inTheWay, name)
		s.logger.Error("the store is damaged and cannot be moved away", "file", name, "damage", why, "error", err)
		return
	}
	s.opening.SetAside = append(s.opening.SetAside, as)
	s.logger.Error("the store is damaged and was set aside", "file", name, "as", as, "damage", why)
}

// keys are the keys that may open the file: the one in use, and the one that a
// rotation was about to introduce.
func (s *Store) keys() ([]*kek, error) {
	class, path := s.cfg.Key.locate(s.cfg.Dir)
	k, err := readKEK(path)
	var keys []*kek
	if err == nil {
		keys = append(keys, k)
	}
	if class == KeyGenerated {
		if next, err := readKEK(path + nextSuffix); err == nil {
			keys = append(keys, next)
		}
	}
	return keys, err
}

// adopt takes over the content of a file. A file that is not as it should be
// written is written anew with the first commit.
func (s *Store) adopt(name string, c *content) error {
	if err := s.accept(c); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.opening.From, s.values = name, c.values
	if c.header.Format != format || (c.key == nil) != s.cfg.Key.Off {
		// Records in another form are sealed with the first commit.
		s.unsealed = c.values
		return nil
	}
	rotated := s.finishRotation(c)
	s.header, s.sealer, s.manifest, s.sealed = c.header, c.sealer, c.manifest, c.sealed
	if name != fileName || rotated {
		return nil
	}
	f, err := mapFile(s.Path(), 0)
	switch {
	case errors.Is(err, ErrLocked):
		return err
	case err != nil:
		s.logger.Error("the store cannot be opened for writing and will be written anew", "error", err)
	default:
		s.file = f
	}
	return nil
}

// finishRotation forgets the old key once the new one opens the file. It
// reports whether the file still has to.
func (s *Store) finishRotation(c *content) bool {
	last := len(c.header.Keys) - 1
	if last < 0 || c.key.id != c.header.Keys[last].Key {
		return false
	}
	if s.class == KeyGenerated && s.dir.exists(generatedName+nextSuffix) {
		if last == 0 {
			// The rotation ended before it reached the file.
			_ = os.Remove(s.keyPath + nextSuffix)
		} else if err := s.dir.rename(generatedName+nextSuffix, generatedName); err != nil {
			s.logger.Error("the rotation of the store's key cannot be finished", "error", err)
			return false
		}
	}
	c.header.Keys = c.header.Keys[last:]
	return last > 0
}

// accept refuses a file whose protection is not the configured one. Whoever
// can write the disk could otherwise replace a sealed file by one of their
// own: so a plain one passes only where no key was there before.
func (s *Store) accept(c *content) error {
	switch {
	case s.anyForm:
		return nil
	case c.key != nil && s.cfg.Key.Off:
		return fmt.Errorf("%w: the file is sealed and encryption is off; to open it up, run: connectd store rekey", ErrKey)
	case c.key == nil && !s.cfg.Key.Off && (s.class != KeyGenerated || s.dir.exists(generatedName)):
		return fmt.Errorf("%w: a key is there and the file is not sealed with it; "+
			"if that is expected, seal it with: connectd store rekey", ErrKey)
	}
	return nil
}
