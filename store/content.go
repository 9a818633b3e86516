package store

import (
	"fmt"
	"maps"
)

// records are values, sealed or not, by bucket and key.
type records = map[string]map[string][]byte

// overlay returns all with a change laid over it; nil deletes. Neither is
// modified.
func overlay(all, change records) records {
	out := maps.Clone(all)
	if out == nil {
		out = records{}
	}
	for bucket, list := range change {
		next := maps.Clone(out[bucket])
		if next == nil {
			next = map[string][]byte{}
		}
		for key, record := range list {
			if record == nil {
				delete(next, key)
			} else {
				next[key] = record
			}
		}
		out[bucket] = next
	}
	return out
}

func count(all records) int {
	n := 0
	for _, list := range all {
		n += len(list)
	}
	return n
}

// each applies f to every record.
func each(all records, f func(bucket, key string, record []byte) ([]byte, error)) (records, error) {
	out := make(records, len(all))
	for bucket, list := range all {
		done := make(map[string][]byte, len(list))
		for key, record := range list {
			if record == nil {
				done[key] = nil
				continue
			}
			var err error
			if done[key], err = f(bucket, key, record); err != nil {
				return nil, err
			}
		}
		out[bucket] = done
	}
	return out, nil
}

// content is a file that was read and found to be whole: every record is the
// one that was written last for its place, and none is missing.
type content struct {
	header   header
	key      *kek
	sealer   sealer
	manifest *manifest
	sealed   records
	values   records
}

// judge opens every record that a file holds and compares the set with the
// manifest. The file is not trusted in any way; neither is the process that
// read it.
func judge(raw records, keys []*kek) (*content, error) {
	h, err := parseHeader(raw[string(headerBucket)])
	if err != nil {
		return nil, err
	}
	c := &content{header: h, sealed: maps.Clone(raw)}
	delete(c.sealed, string(headerBucket))
	if c.key, c.sealer, err = h.unlock(keys); err != nil {
		return nil, err
	}
	if c.values, err = each(c.sealed, c.sealer.open); err != nil {
		return nil, err
	}
	if c.manifest, err = manifestOf(c.sealed); err != nil {
		return nil, err
	}
	if h.Format == 1 {
		return c, nil
	}
	stored, err := c.sealer.open(string(headerBucket), string(manifestKey), raw[string(headerBucket)][string(manifestKey)])
	if err != nil {
		return nil, err
	}
	if err := c.manifest.check(stored); err != nil {
		return nil, err
	}
	return c, nil
}

// unlock finds the key that opens the file and what the records are sealed
// with.
func (h header) unlock(keys []*kek) (*kek, sealer, error) {
	if len(h.Keys) == 0 {
		return nil, plain{}, nil
	}
	for i := len(h.Keys) - 1; i >= 0; i-- {
		for _, k := range keys {
			if k.id != h.Keys[i].Key {
				continue
			}
			set, err := k.unwrap(h.Keys[i])
			if err != nil {
				return nil, nil, err
			}
			s, err := newSealed(set)
			return k, s, err
		}
	}
	return nil, nil, fmt.Errorf("%w: the file was sealed with key %s", ErrKey, h.Keys[len(h.Keys)-1].Key)
}
