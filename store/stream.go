package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"go.etcd.io/bbolt"
)

// streamStart is the first thing that a verifying process says: what follows
// depends on the file, what came before did not.
const streamStart = "connectd store stream 1\n"

// Marks of a stream: what follows.
const (
	markRecord byte = 'r'
	markEnd    byte = 'z'
)

// Verdicts at the end of a stream.
const (
	verdictWhole byte = iota
	verdictDamaged
	verdictLocked
	verdictAbsent
	verdictUnreadable
)

// streamWriter writes records as lengths and bytes.
type streamWriter struct {
	w     *bufio.Writer
	total int64
}

// bucket writes the records of a bucket. Damage can make bbolt walk in
// circles; no file holds more than its own size.
func (s *streamWriter) bucket(name []byte, b *bbolt.Bucket, limit int64) error {
	return b.ForEach(func(key, value []byte) error {
		if value == nil {
			return fmt.Errorf("%w: bucket %q holds a bucket", ErrDamaged, name)
		}
		if s.total += int64(len(key) + len(value)); s.total > limit {
			return fmt.Errorf("%w: it holds more than its size", ErrDamaged)
		}
		_ = s.w.WriteByte(markRecord)
		for _, field := range [][]byte{name, key, value} {
			_, _ = s.w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field))))
			// The writer keeps its first error.
			if _, err := s.w.Write(field); err != nil {
				return err
			}
		}
		return nil
	})
}

// end writes the verdict and a text for people.
func (s *streamWriter) end(err error) {
	verdict, text := verdictUnreadable, ""
	switch {
	case err == nil:
		verdict = verdictWhole
	case errors.Is(err, ErrDamaged), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EIO):
		// A size that cannot be mapped reads as EINVAL.
		verdict = verdictDamaged
	case errors.Is(err, ErrLocked):
		verdict = verdictLocked
	case errors.Is(err, fs.ErrNotExist):
		verdict = verdictAbsent
	}
	if err != nil {
		text = err.Error()
	}
	_, _ = s.w.Write([]byte{markEnd, verdict})
	_, _ = s.w.WriteString(text)
}

// readStream returns the records of a stream that ended well. limit bounds
// what it holds, whatever lengths it claims.
func readStream(r io.Reader, limit int64) (records, error) {
	in := bufio.NewReaderSize(io.LimitReader(r, limit), 64<<10)
	out := records{}
	for {
		mark, err := in.ReadByte()
		if err != nil {
			return nil, errCut
		}
		switch mark {
		case markEnd:
			return out, readVerdict(in)
		case markRecord:
			if err := readRecord(in, out, limit); err != nil {
				return nil, err
			}
		default:
			return nil, errCut
		}
	}
}

// errCut means that the process did not come to its verdict.
var errCut = fmt.Errorf("%w: the process that read it died of it", ErrDamaged)

func readRecord(in *bufio.Reader, out records, limit int64) error {
	var fields [3][]byte
	for i := range fields {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return errCut
		}
		n := int64(binary.BigEndian.Uint32(size[:]))
		if n > limit {
			return errCut
		}
		fields[i] = make([]byte, n)
		if _, err := io.ReadFull(in, fields[i]); err != nil {
			return errCut
		}
	}
	bucket, key := string(fields[0]), string(fields[1])
	if out[bucket] == nil {
		out[bucket] = map[string][]byte{}
	}
	if _, twice := out[bucket][key]; twice {
		return fmt.Errorf("%w: it holds record %s/%s twice", ErrDamaged, bucket, key)
	}
	out[bucket][key] = fields[2]
	return nil
}

func readVerdict(in *bufio.Reader) error {
	verdict, err := in.ReadByte()
	if err != nil {
		return errCut
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return errCut
	}
	switch verdict {
	case verdictWhole:
		return nil
	case verdictLocked:
		return ErrLocked
	case verdictAbsent:
		return fs.ErrNotExist
	case verdictDamaged:
		return fmt.Errorf("%w: %s", ErrDamaged, text)
	}
	return fmt.Errorf("%w: %s", ErrUnverified, text)
}
