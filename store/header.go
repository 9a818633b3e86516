package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// format is the layout of the file that this code writes, and the newest that
// it reads. Format 1 had plain records, no header and no manifest.
const format = 2

var (
	headerBucket = []byte("store")
	// formatKey holds the number alone, for any version to read.
	formatKey   = []byte("format")
	headerKey   = []byte("header")
	manifestKey = []byte("manifest")
)

// header says how to read the rest. It is a plain record in every format from
// 2 on, and repeats the format: a damaged number is not taken for a newer one.
type header struct {
	Format uint32 `json:"format"`
	// Keys are copies of one keyset, each for another key: two while the key
	// is being rotated, none if the records are plain.
	Keys []wrapped `json:"keys,omitempty"`
}

func (h header) records() (records, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	record, err := plain{}.seal(string(headerBucket), string(headerKey), text)
	if err != nil {
		return nil, err
	}
	return records{string(headerBucket): {
		string(formatKey): binary.BigEndian.AppendUint32(nil, h.Format),
		string(headerKey): record,
	}}, nil
}

// parseHeader reads the header of any format.
func parseHeader(from map[string][]byte) (header, error) {
	number := from[string(formatKey)]
	if len(number) != 4 {
		return header{}, fmt.Errorf("%w: it does not say its format", ErrDamaged)
	}
	n := binary.BigEndian.Uint32(number)
	record, there := from[string(headerKey)]
	if !there {
		if n == 1 {
			return header{Format: 1}, nil
		}
		return header{}, fmt.Errorf("%w: it has no header", ErrDamaged)
	}
	text, err := plain{}.open(string(headerBucket), string(headerKey), record)
	if err != nil {
		return header{}, err
	}
	var h header
	if err := json.Unmarshal(text, &h); err != nil || h.Format != n || n < 2 {
		return header{}, fmt.Errorf("%w: its header says another format", ErrDamaged)
	}
	if n > format {
		return header{}, fmt.Errorf("%w (format %d, this one reads up to %d)", ErrNewerFormat, n, format)
	}
	return h, nil
}
