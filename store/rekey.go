package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Rekeyed says what a change of keys did.
type Rekeyed struct {
	Location string
	Records  int
	// Pending is true while both keys open the store: the old one is forgotten
	// at the first start with the new one.
	Pending bool
}

// Rekey seals every record anew, with new data keys, for a new key: the one in
// newKeyFile, or a generated one where the key is generated. A store that is
// not protected as configured is brought into that form. The daemon must not
// run. It can be interrupted anywhere: until its end either key opens the
// store, and one of them is where the daemon looks.
func Rekey(cfg Config, newKeyFile string) (Rekeyed, error) {
	s, err := open(cfg, true)
	if err != nil {
		return Rekeyed{}, err
	}
	defer s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening.From == "" && s.refusal == nil {
		return Rekeyed{}, fmt.Errorf("there is no store in %s", cfg.Dir)
	}
	done := Rekeyed{Location: s.class, Records: s.opening.Records}
	if s.unsealed != nil || cfg.Key.Off {
		// The first commit brings it into the configured form.
		return done, s.replaceAll()
	}
	return s.rotate(newKeyFile, done)
}

func (s *Store) rotate(newKeyFile string, done Rekeyed) (Rekeyed, error) {
	if err := s.prepare(); err != nil {
		return done, err
	}
	old, err := readKEK(s.keyPath)
	if err != nil {
		return done, err
	}
	next, err := s.nextKEK(newKeyFile)
	if err != nil {
		return done, err
	}
	values, err := each(s.sealed, s.sealer.open)
	if err != nil {
		return done, err
	}
	h, seal, err := sealWith(old, next)
	if err != nil {
		return done, err
	}
	if s.sealed, err = each(values, seal.seal); err != nil {
		return done, err
	}
	if s.manifest, err = manifestOf(s.sealed); err != nil {
		return done, err
	}
	s.header, s.sealer = h, seal
	if err := s.replaceAll(); err != nil {
		return done, err
	}
	if s.class != KeyGenerated || newKeyFile != "" {
		done.Pending = true
		return done, nil
	}
	if err := s.dir.rename(generatedName+nextSuffix, generatedName); err != nil {
		return done, err
	}
	s.header.Keys = s.header.Keys[1:]
	return done, s.replaceAll()
}

// nextKEK is the key that is to follow.
func (s *Store) nextKEK(newKeyFile string) (*kek, error) {
	if newKeyFile != "" {
		return readKEK(newKeyFile)
	}
	if s.class != KeyGenerated {
		return nil, errors.New("name the new key with --new-key-file; one is made by: openssl rand -base64 32")
	}
	k, err := newKEK()
	if err != nil {
		return nil, err
	}
	return k, k.write(s.dir, generatedName+nextSuffix)
}

// replaceAll writes file and copy anew, so that nothing sealed with the old
// data keys is left in either.
func (s *Store) replaceAll() error {
	if err := s.prepare(); err != nil {
		return err
	}
	s.abandon()
	if err := s.settle(); err != nil {
		return err
	}
	image, err := s.image(s.sealed, s.manifest)
	if err != nil {
		return err
	}
	return s.dir.writeCopy(image)
}

// Finding is what verifying one file found.
type Finding struct {
	File       string
	Err        error
	Format     int
	Generation uint64
	Records    int
	Sealed     bool
}

// Verify examines the file and its copy as opening would, and changes nothing.
// It holds the store's lock meanwhile. Files that do not exist are left out.
func Verify(cfg Config) ([]Finding, error) {
	// Entering would create the directory.
	if _, err := os.Stat(cfg.Dir); err != nil {
		return nil, fmt.Errorf("verify store: %w", err)
	}
	dir, err := enter(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("verify store: %w", err)
	}
	defer dir.close()
	s := &Store{cfg: cfg, dir: dir}
	keys, keyErr := s.keys()
	var found []Finding
	for _, name := range []string{fileName, previousName} {
		c, err := s.read(name, keys)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, ErrKey):
			err = errors.Join(err, keyErr)
		}
		f := Finding{File: name, Err: err}
		if err == nil {
			f.Format, f.Generation = int(c.header.Format), c.manifest.generation
			f.Records, f.Sealed = c.manifest.count, c.key != nil
		}
		found = append(found, f)
	}
	return found, nil
}
