package store

import (
	"errors"
	"fmt"
	"io/fs"
)

// begin chooses what new records are sealed with, and seals those that were
// read in another form.
func (s *Store) begin() error {
	h, seal, err := s.newSealer()
	if err != nil {
		return err
	}
	all, err := each(s.unsealed, seal.seal)
	if err != nil {
		return err
	}
	m, err := manifestOf(all)
	if err != nil {
		return err
	}
	s.header, s.sealer, s.sealed, s.manifest, s.unsealed = h, seal, all, m, nil
	return nil
}

// newSealer makes a keyset for a new file.
func (s *Store) newSealer() (header, sealer, error) {
	if s.cfg.Key.Off {
		return header{Format: format}, plain{}, nil
	}
	k, err := s.needKEK()
	if err != nil {
		return header{}, nil, err
	}
	return sealWith(k)
}

// sealWith makes a keyset that each of the keys opens.
func sealWith(keys ...*kek) (header, sealer, error) {
	h := header{Format: format}
	set, err := newKeyset()
	if err != nil {
		return h, nil, err
	}
	for _, k := range keys {
		w, err := k.wrap(set)
		if err != nil {
			return h, nil, err
		}
		h.Keys = append(h.Keys, w)
	}
	seal, err := newSealed(set)
	return h, seal, err
}

// needKEK reads the key, or generates one where none is configured. It is
// called only when there is no sealed file that another key belongs to.
func (s *Store) needKEK() (*kek, error) {
	k, err := readKEK(s.keyPath)
	if s.class != KeyGenerated || !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = newKEK(); err == nil {
		err = k.write(s.dir, generatedName)
	}
	if err != nil {
		return nil, fmt.Errorf("generate the store's key: %w", err)
	}
	s.logger.Warn("generated a key for the store; whoever copies the whole directory has both: "+
		"a systemd credential or store { key_file = ... } keeps them apart", "file", s.keyPath)
	return k, nil
}
