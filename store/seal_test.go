package store

import (
	"bytes"
	"errors"
	"testing"
)

// sealers are both forms of records.
func sealers(t testing.TB) map[string]sealer {
	t.Helper()
	set, err := newKeyset()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSealed(set)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]sealer{"plain": plain{}, "sealed": s}
}

func mustSeal(t testing.TB, s sealer, bucket, key string, value []byte) []byte {
	t.Helper()
	record, err := s.seal(bucket, key, value)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// TestDamageIsFound flips every bit of a record, cuts it and lengthens it.
func TestDamageIsFound(t *testing.T) {
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			whole := mustSeal(t, s, "leaf", "web", []byte("web's key"))
			var damaged [][]byte
			for i := range whole {
				for bit := range 8 {
					d := bytes.Clone(whole)
					d[i] ^= 1 << bit
					damaged = append(damaged, d)
				}
				damaged = append(damaged, whole[:i])
			}
			damaged = append(damaged, append(bytes.Clone(whole), 0), nil)
			for _, d := range damaged {
				if got, err := s.open("leaf", "web", d); !errors.Is(err, ErrDamaged) || got != nil {
					t.Errorf("%x: got %q, %v; want an error", d, got, err)
				}
			}
		})
	}
}

// TestPlacesAreToldApart makes sure that no other bucket and key open a record
// by sliding the border between them.
func TestPlacesAreToldApart(t *testing.T) {
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			record := mustSeal(t, s, "ab", "c", []byte("v"))
			for _, place := range [][2]string{{"a", "bc"}, {"ab/c", ""}, {"", "ab/c"}, {"ab", "C"}, {"abc", ""}, {"", "abc"}} {
				if _, err := s.open(place[0], place[1], record); !errors.Is(err, ErrDamaged) {
					t.Errorf("%v: got %v, want %v", place, err, ErrDamaged)
				}
			}
		})
	}
}

func TestSealsDiffer(t *testing.T) {
	s := sealers(t)["sealed"]
	a, b := mustSeal(t, s, "b", "k", []byte("v")), mustSeal(t, s, "b", "k", []byte("v"))
	x, err1 := tagOf(a)
	y, err2 := tagOf(b)
	if err := errors.Join(err1, err2); err != nil || x == y || bytes.Equal(a, b) {
		t.Errorf("two seals of one value cannot be told apart, or %v", err)
	}
	if other := sealers(t)["sealed"]; other != nil {
		if _, err := other.open("b", "k", a); !errors.Is(err, ErrDamaged) {
			t.Errorf("another keyset: got %v, want %v", err, ErrDamaged)
		}
	}
}

func TestManifestFindsEveryChange(t *testing.T) {
	s := sealers(t)["sealed"]
	all := records{}
	for n := 1; n <= 50; n++ {
		all = overlay(all, batchOf(n))
	}
	all, err := each(withoutEmpty(all), s.seal)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := manifestOf(all)
	if err != nil {
		t.Fatal(err)
	}
	stored := whole.record()
	differs := func(what string, changed records) {
		m, err := manifestOf(changed)
		if err == nil {
			err = m.check(stored)
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", what, err, ErrDamaged)
		}
	}
	places := 0
	for bucket, list := range all {
		for key, record := range list {
			places++
			differs("removed "+key, overlay(all, records{bucket: {key: nil}}))
			differs("resealed "+key, overlay(all, records{bucket: {key: mustSeal(t, s, bucket, key, nil)}}))
			differs("doubled "+key, overlay(all, records{"elsewhere": {key: record}}))
		}
	}
	differs("nothing left", records{})
	if again, err := manifestOf(all); err != nil || again.check(stored) != nil || places < 40 {
		t.Errorf("the manifest of the same %d records differs: %v", places, err)
	}
}

// FuzzOpen gives any bytes to both openers: nothing but what was sealed for a
// place opens there.
func FuzzOpen(f *testing.F) {
	both := sealers(f)
	for _, s := range both {
		f.Add("leaf", "web", mustSeal(f, s, "leaf", "web", []byte("web's key")))
	}
	f.Add("", "", []byte{formPlain})
	f.Add("b", "k", []byte{formSealed, 1, 2, 3})
	f.Add("leaf", "web", append([]byte{formSealed, 1, 0, 0, 0, 0}, make([]byte, 60)...))
	kept := mustSeal(f, both["sealed"], "leaf", "web", []byte("kept"))
	f.Fuzz(func(t *testing.T, bucket, key string, record []byte) {
		for name, s := range both {
			value, err := s.open(bucket, key, record)
			if err != nil {
				if !errors.Is(err, ErrDamaged) || value != nil {
					t.Fatalf("%s: got %q, %v", name, value, err)
				}
				continue
			}
			if name == "sealed" && !bytes.Equal(record, kept) && len(record) > 0 {
				// Seeds of this very process open; nobody else can make one.
				if again, _ := s.open(bucket, key, record); !bytes.Equal(again, value) {
					t.Fatalf("a record opens to two values")
				}
			}
			if name == "plain" && !bytes.Equal(mustSeal(t, s, bucket, key, value), record) {
				t.Fatalf("two plain records open to one value in one place")
			}
		}
		if _, err := tagOf(record); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	})
}

// FuzzJudge gives any header, manifest and record to the judge of whole files.
func FuzzJudge(f *testing.F) {
	k, err := newKEK()
	if err != nil {
		f.Fatal(err)
	}
	h, s, err := sealWith(k)
	if err != nil {
		f.Fatal(err)
	}
	head, err := h.records()
	if err != nil {
		f.Fatal(err)
	}
	own := head[string(headerBucket)]
	all := records{"leaf": {"web": mustSeal(f, s, "leaf", "web", []byte("web's key"))}}
	m, err := manifestOf(all)
	if err != nil {
		f.Fatal(err)
	}
	index := mustSeal(f, s, string(headerBucket), string(manifestKey), m.record())
	f.Add(own[string(formatKey)], own[string(headerKey)], index, all["leaf"]["web"])
	f.Add([]byte{0, 0, 0, 1}, []byte(nil), []byte(nil), mustSeal(f, plain{}, "leaf", "web", []byte("v")))
	f.Fuzz(func(t *testing.T, number, head, index, record []byte) {
		raw := records{
			string(headerBucket): {string(formatKey): number, string(headerKey): head, string(manifestKey): index},
			"leaf":               {"web": record},
		}
		if len(head) == 0 {
			delete(raw[string(headerBucket)], string(headerKey))
		}
		c, err := judge(raw, []*kek{k})
		switch {
		case err != nil:
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrKey) && !errors.Is(err, ErrNewerFormat) {
				t.Fatal(err)
			}
		case c.key != nil && string(c.values["leaf"]["web"]) != "web's key":
			t.Fatalf("got %q under a seal that nobody made", c.values["leaf"]["web"])
		}
	})
}

// FuzzStream gives any bytes to the reader of what a verifying process says.
func FuzzStream(f *testing.F) {
	f.Add([]byte("r\x00\x00\x00\x01b\x00\x00\x00\x01k\x00\x00\x00\x01vz\x00"))
	f.Add([]byte("z\x01it is damaged"))
	f.Add([]byte("r\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, err := readStream(bytes.NewReader(stream), int64(len(stream)))
		if err == nil && count(got) > len(stream) {
			t.Fatalf("got %d records from %d bytes", count(got), len(stream))
		}
	})
}
