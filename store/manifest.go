package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
)

// shards is into how many parts the records are divided by the manifest. A
// commit looks only at the parts that it changes, so its cost hardly grows
// with the number of records.
const shards = 64

// spot is the place of a record.
type spot struct{ bucket, key string }

// A manifest says which records must exist, and exactly which: it covers the
// tag of every one. Sealed in the same transaction, it finds what the seals of
// single records cannot: one that is missing, or that is an older version of
// itself.
type manifest struct {
	generation uint64
	count      int
	parts      [shards]map[spot]tag
	digests    [shards][sha256.Size]byte
}

// manifestRecord is what is sealed: of constant size, whatever it covers.
type manifestRecord struct {
	Generation uint64 `json:"generation"`
	Records    int    `json:"records"`
	Digest     []byte `json:"digest"`
}

// with returns the manifest after a change of sealed records, where nil
// deletes, at the next generation. The receiver stays as it is, because the
// change may fail.
func (m *manifest) with(change records) (*manifest, error) {
	next := *m
	next.generation++
	var touched [shards]bool
	for bucket, list := range change {
		for key, record := range list {
			at := spot{bucket, key}
			i := shardOf(at)
			if !touched[i] {
				touched[i] = true
				next.parts[i] = maps.Clone(next.parts[i])
			}
			if err := next.put(i, at, record); err != nil {
				return nil, err
			}
		}
	}
	for i := range touched {
		if touched[i] {
			next.digests[i] = digestOf(next.parts[i])
		}
	}
	return &next, nil
}

func (m *manifest) put(i int, at spot, record []byte) error {
	before := len(m.parts[i])
	if record == nil {
		delete(m.parts[i], at)
	} else {
		t, err := tagOf(record)
		if err != nil {
			return err
		}
		if m.parts[i] == nil {
			m.parts[i] = map[spot]tag{}
		}
		m.parts[i][at] = t
	}
	m.count += len(m.parts[i]) - before
	return nil
}

func shardOf(at spot) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(at.bucket))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(at.key))
	return int(h.Sum32() % shards)
}

// digestOf covers places and tags, in an order that depends on nothing else.
func digestOf(part map[spot]tag) [sha256.Size]byte {
	order := slices.SortedFunc(maps.Keys(part), func(a, b spot) int {
		return slices.Compare([]string{a.bucket, a.key}, []string{b.bucket, b.key})
	})
	var buf []byte
	for _, at := range order {
		t := part[at]
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(at.bucket)))
		buf = append(buf, at.bucket...)
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(at.key)))
		buf = append(buf, at.key...)
		buf = append(buf, t[:]...)
	}
	return sha256.Sum256(buf)
}

// record is what is sealed for this manifest.
func (m *manifest) record() []byte {
	h := sha256.New()
	for i := range m.digests {
		h.Write(m.digests[i][:])
	}
	// Numbers and bytes always encode.
	b, _ := json.Marshal(manifestRecord{m.generation, m.count, h.Sum(nil)})
	return b
}

// check compares the manifest of what was read with the one that was stored,
// and takes over its generation.
func (m *manifest) check(stored []byte) error {
	var r manifestRecord
	if err := json.Unmarshal(stored, &r); err != nil {
		return fmt.Errorf("%w: the manifest cannot be read", ErrDamaged)
	}
	m.generation = r.Generation
	if m.count != r.Records {
		return fmt.Errorf("%w: it must hold %d records and holds %d", ErrDamaged, r.Records, m.count)
	}
	if string(m.record()) != string(stored) {
		return fmt.Errorf("%w: a record is not the one that was written last", ErrDamaged)
	}
	return nil
}

// manifestOf covers a whole set of sealed records.
func manifestOf(all records) (*manifest, error) {
	m := &manifest{}
	for i := range m.digests {
		m.digests[i] = digestOf(nil)
	}
	m, err := m.with(all)
	if err != nil {
		return nil, err
	}
	m.generation = 0
	return m, nil
}
