package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/bbolt"
)

// Store keeps records. Load is called once, at start; Commit and Settle may be
// called from one goroutine at a time, while Run runs in another. What it
// holds is kept in memory too, as ciphertext, so that a file that fails can be
// replaced by a new one.
type Store struct {
	cfg     Config
	logger  hclog.Logger
	dir     *directory
	class   string
	keyPath string
	opening Opening
	anyForm bool
	// changed holds a token while the copy is older than the file.
	changed chan struct{}

	mu sync.Mutex // guards the rest
	// refusal is why nothing may be written as long as this process lives.
	refusal error
	// values are the records that were read, until Load hands them over.
	values records
	// unsealed are records that await their first sealing.
	unsealed records
	// inTheWay are damaged files that could not be moved yet.
	inTheWay []string
	header   header
	sealer   sealer
	sealed   records
	manifest *manifest
	// file is nil while a new one has to be built.
	file *file
	// settled is true when both meta pages of the file lead to the records.
	settled bool
}

// Load returns every record by bucket and key, as opening found them. The
// store forgets the values.
func (s *Store) Load() (map[string]map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := s.values
	s.values = nil
	if values == nil {
		values = records{}
	}
	return values, nil
}

// Commit writes a batch in one transaction and returns when it is durable
// against the end of the process. A nil value deletes its record. After an
// error the batch may or may not be in the file; the caller commits its values
// again, with newer ones where there are some.
func (s *Store) Commit(batch map[string]map[string][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.commit(batch); err != nil {
		return fmt.Errorf("commit to store %s: %w", s.Path(), err)
	}
	s.remind()
	return nil
}

func (s *Store) commit(batch records) error {
	if err := s.prepare(); err != nil {
		return err
	}
	if err := check(batch); err != nil {
		return err
	}
	change, err := each(batch, s.sealer.seal)
	if err != nil {
		return err
	}
	next, err := s.manifest.with(change)
	if err != nil {
		return err
	}
	if s.file == nil {
		return s.rebuild(overlay(s.sealed, change), next)
	}
	index, err := s.seal(next)
	if err != nil {
		return err
	}
	if err := s.file.update(change, index); err != nil {
		s.abandonUnlessFull(err)
		return err
	}
	s.keep(change)
	s.manifest, s.settled = next, false
	return nil
}

// check refuses what no file can hold, before it costs one.
func check(batch records) error {
	for bucket, list := range batch {
		if bucket == "" || bucket == string(headerBucket) {
			return fmt.Errorf("bucket %q is not for records", bucket)
		}
		for key, value := range list {
			if key == "" || len(key) > bbolt.MaxKeySize || len(value) > maxValueBytes {
				return fmt.Errorf("record %s/%.100s with %d bytes does not fit", bucket, key, len(value))
			}
		}
	}
	return nil
}

// maxValueBytes is far more than any record has, and less than lengths in the
// file and on the way from it can say.
const maxValueBytes = 1 << 30

// keep takes over what was written.
func (s *Store) keep(change records) {
	for bucket, list := range change {
		if s.sealed[bucket] == nil {
			s.sealed[bucket] = map[string][]byte{}
		}
		for key, record := range list {
			if record == nil {
				delete(s.sealed[bucket], key)
			} else {
				s.sealed[bucket][key] = record
			}
		}
	}
}

// Settle makes what was committed survive a torn page: bbolt has two meta
// pages, one for each of the last two transactions, and falls back to the
// older one without a word. After a second transaction both lead to the same
// records. Settle is called when nothing waits to be committed; a commit
// settles the one before it just as well.
func (s *Store) Settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.settle(); err != nil {
		return fmt.Errorf("settle store %s: %w", s.Path(), err)
	}
	return nil
}

func (s *Store) settle() error {
	if err := s.prepare(); err != nil {
		return err
	}
	if s.file == nil {
		return s.rebuild(s.sealed, s.manifest)
	}
	if s.settled {
		return nil
	}
	if err := s.file.update(); err != nil {
		s.abandonUnlessFull(err)
		return err
	}
	s.settled = true
	return nil
}

// prepare makes sure that writing is allowed, and that what is written goes
// where it is looked for.
func (s *Store) prepare() error {
	if s.refusal != nil {
		return s.refusal
	}
	if err := s.dir.same(); err != nil {
		return err
	}
	if s.file != nil && !s.file.at(s.dir.join(fileName)) {
		s.abandon()
	}
	if s.sealer != nil {
		return nil
	}
	return s.begin()
}

// rebuild writes a complete new file beside the old one and puts it in its
// place.
func (s *Store) rebuild(all records, m *manifest) error {
	for len(s.inTheWay) > 0 {
		if _, err := s.dir.setAside(s.inTheWay[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.inTheWay = s.inTheWay[1:]
	}
	f, err := s.build(all, m)
	if err != nil {
		return err
	}
	s.file, s.sealed, s.manifest, s.settled = f, all, m, true
	s.remind()
	return nil
}

// build puts a new file with these records, synced and settled, in the place
// of the old one.
func (s *Store) build(all records, m *manifest) (*file, error) {
	image, err := s.image(all, m)
	if err != nil {
		return nil, err
	}
	const temporary = fileName + newSuffix
	f, err := create(s.dir.join(temporary), image)
	if err != nil {
		return nil, err
	}
	if err := s.dir.rename(temporary, fileName); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// image is everything that a file with these records holds.
func (s *Store) image(all records, m *manifest) (records, error) {
	image, err := s.header.records()
	if err != nil {
		return nil, err
	}
	index, err := s.seal(m)
	if err != nil {
		return nil, err
	}
	return overlay(overlay(all, image), index), nil
}

// seal turns the manifest into its record.
func (s *Store) seal(m *manifest) (records, error) {
	record, err := s.sealer.seal(string(headerBucket), string(manifestKey), m.record())
	if err != nil {
		return nil, err
	}
	return records{string(headerBucket): {string(manifestKey): record}}, nil
}

// abandonUnlessFull gives up a file after a failure. What a failed sync leaves
// is unknown, and a second one on the same descriptor would succeed without
// having written anything; so a new file is built. Only a write for which
// there was no room has no such effect and can be repeated.
func (s *Store) abandonUnlessFull(err error) {
	var write *fs.PathError
	if errors.As(err, &write) && write.Op == "write" && noRoom(err) {
		return
	}
	s.abandon()
}

func noRoom(err error) bool {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG} {
		if errors.Is(err, full) {
			return true
		}
	}
	return false
}

func (s *Store) abandon() {
	if s.file != nil {
		s.file.close()
		s.file = nil
	}
}

// Problem is why nothing will be written as long as this process lives; nil if
// nothing stands against it.
func (s *Store) Problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusal
}

// Opening says what was found at the start.
func (s *Store) Opening() Opening { return s.opening }

// KeyLocation is the class of the place where the key is.
func (s *Store) KeyLocation() string { return s.class }

// Path returns the file of the store.
func (s *Store) Path() string { return s.dir.join(fileName) }

// Close releases the store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandon()
	if s.refusal == nil {
		s.refusal = os.ErrClosed
	}
	return s.dir.close()
}
