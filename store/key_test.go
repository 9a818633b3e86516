package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// keyFile writes a new key, or what is given, into a private file.
func keyFile(t testing.TB, text ...string) string {
	t.Helper()
	k, err := newKEK()
	if err != nil {
		t.Fatal(err)
	}
	content := k.text
	if len(text) > 0 {
		content = []byte(text[0])
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// credentials is a directory as systemd makes it.
func credentials(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Rename(keyFile(t), filepath.Join(dir, CredentialName)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestKeyLocations(t *testing.T) {
	file, dir := keyFile(t), credentials(t)
	tests := []struct {
		name string
		key  KeySource
		want string
	}{
		{"generated", KeySource{}, KeyGenerated},
		{"file", KeySource{File: file}, KeyFile},
		{"credential", KeySource{CredentialsDir: dir}, KeyCredential},
		{"credential-before-file", KeySource{File: file, CredentialsDir: dir}, KeyCredential},
		{"other-credentials", KeySource{File: file, CredentialsDir: t.TempDir()}, KeyFile},
		{"off", KeySource{Off: true}, KeyOff},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Dir: privateTempDir(t), Key: tt.key}
			fill(t, c)
			s := mustOpenWith(t, c)
			if s.KeyLocation() != tt.want || !reflect.DeepEqual(load(t, s), someRecords) {
				t.Errorf("got location %s, want %s with the records", s.KeyLocation(), tt.want)
			}
			if got := s.dir.exists(generatedName); got != (tt.want == KeyGenerated) {
				t.Errorf("a key was generated: %t", got)
			}
			raw, err := os.ReadFile(s.Path())
			if err != nil || bytes.Contains(raw, []byte("web's key")) != tt.key.Off {
				t.Errorf("the record is in clear, or should be: %v", err)
			}
		})
	}
}

// TestKeyMatrix opens a sealed store with every kind of wrong key: nothing is
// served, nothing is written, and the right key opens it afterwards.
func TestKeyMatrix(t *testing.T) {
	right := keyFile(t)
	open := keyFile(t)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	noDir := credentials(t)
	if err := os.Remove(filepath.Join(noDir, CredentialName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(noDir, CredentialName), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		key  KeySource
	}{
		{"another-file", KeySource{File: keyFile(t)}},
		{"missing-file", KeySource{File: right + ".gone"}},
		{"empty-file", KeySource{File: keyFile(t, "")}},
		{"not-base64", KeySource{File: keyFile(t, "this is no key")}},
		{"short", KeySource{File: keyFile(t, "c2hvcnQ=")}},
		{"cut", KeySource{File: keyFile(t, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")}},
		{"long", KeySource{File: keyFile(t, strings.Repeat("A", 2*keyFileLimit))}},
		{"open-to-others", KeySource{File: open}},
		{"directory", KeySource{File: t.TempDir()}},
		{"another-credential", KeySource{File: right, CredentialsDir: credentials(t)}},
		{"unreadable-credential", KeySource{File: right, CredentialsDir: noDir}},
		{"none-configured", KeySource{}},
		{"off", KeySource{Off: true}},
	}
	dir := privateTempDir(t)
	fill(t, Config{Dir: dir, Key: KeySource{File: right}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := leftUntouched(t, Config{Dir: dir, Key: tt.key}, ErrKey)
			if err := s.Copy(); err == nil {
				t.Error("a copy was made of what could not be read")
			}
			if list, _ := filepath.Glob(filepath.Join(dir, "*")); len(list) != 1 {
				t.Errorf("got %v, want the file alone", list)
			}
		})
	}
	if got := load(t, mustOpenWith(t, Config{Dir: dir, Key: KeySource{File: right}})); !reflect.DeepEqual(got, someRecords) {
		t.Errorf("got %v with the right key", got)
	}
	t.Logf("%d wrong keys: 0 records destroyed", len(tests))
}

// TestKeyThatComesLater starts without a key and without a store: once there
// is a key, the store works.
func TestKeyThatComesLater(t *testing.T) {
	path := keyFile(t)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	s := mustOpenWith(t, Config{Dir: privateTempDir(t), Key: KeySource{File: path}})
	if err := s.Commit(someRecords); !errors.Is(err, ErrKey) {
		t.Errorf("got %v, want %v", err, ErrKey)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, someRecords)
}

func TestRekeyGenerated(t *testing.T) {
	dir := filled(t)
	c := Config{Dir: dir}
	before, err := os.ReadFile(filepath.Join(dir, generatedName))
	if err != nil {
		t.Fatal(err)
	}
	done, err := Rekey(c, "")
	if err != nil || done.Pending || done.Records != count(someRecords) {
		t.Fatalf("got %+v, %v", done, err)
	}
	after, err := os.ReadFile(filepath.Join(dir, generatedName))
	if err != nil || bytes.Equal(before, after) {
		t.Errorf("the key is the same, or %v", err)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "*"+nextSuffix+"*")); len(list) > 0 {
		t.Errorf("%v was left behind", list)
	}
	s := mustOpen(t, dir)
	if got := load(t, s); !reflect.DeepEqual(got, someRecords) {
		t.Errorf("got %v after the rotation", got)
	}
	mustClose(t, s)
	// The old key opens neither the file nor its copy.
	old := Config{Dir: dir, Key: KeySource{File: keyFile(t, string(before))}}
	found, err := Verify(old)
	if err != nil || len(found) != 2 || !errors.Is(found[0].Err, ErrKey) || !errors.Is(found[1].Err, ErrKey) {
		t.Errorf("with the old key: got %+v, %v", found, err)
	}
}

// TestRekeyFile rotates a key that the operator keeps: both open the store
// until the first start with the new one, and the old one does not after it.
func TestRekeyFile(t *testing.T) {
	dir := privateTempDir(t)
	old, next := Config{Dir: dir, Key: KeySource{File: keyFile(t)}}, Config{Dir: dir, Key: KeySource{File: keyFile(t)}}
	fill(t, old)
	if _, err := Rekey(old, ""); err == nil || !strings.Contains(err.Error(), "--new-key-file") {
		t.Errorf("got %v, want what to do", err)
	}
	done, err := Rekey(old, next.Key.File)
	if err != nil || !done.Pending {
		t.Fatalf("got %+v, %v", done, err)
	}
	for _, c := range []Config{old, next, old} {
		found, err := Verify(c)
		if err != nil || len(found) != 2 || errors.Join(found[0].Err, found[1].Err) != nil {
			t.Errorf("half-way: got %+v, %v", found, err)
		}
	}
	s := mustOpenWith(t, old)
	mustCommit(t, s, batch{"meta": {"index": []byte("8")}})
	mustClose(t, s)
	s = mustOpenWith(t, next)
	got := load(t, s)
	if string(got["meta"]["index"]) != "8" || string(got["leaf"]["web"]) != "web's key" {
		t.Errorf("got %v with the new key", got)
	}
	if err := errors.Join(s.Settle(), s.Copy()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	found, err := Verify(old)
	if err != nil || len(found) != 2 || !errors.Is(found[0].Err, ErrKey) || !errors.Is(found[1].Err, ErrKey) {
		t.Errorf("with the old key afterwards: got %+v, %v", found, err)
	}
}

// TestRekeyInterrupted leaves off after each step: the store opens, and what is
// left of the rotation is finished or undone.
func TestRekeyInterrupted(t *testing.T) {
	steps := []struct {
		name  string
		leave func(t *testing.T, dir string)
	}{
		{"key-written", func(t *testing.T, dir string) {
			if err := os.Rename(keyFile(t), filepath.Join(dir, generatedName+nextSuffix)); err != nil {
				t.Fatal(err)
			}
		}},
		{"file-sealed-for-both", func(t *testing.T, dir string) {
			s, err := open(Config{Dir: dir}, true)
			if err != nil {
				t.Fatal(err)
			}
			next, err := s.nextKEK("")
			if err != nil {
				t.Fatal(err)
			}
			mustClose(t, s)
			path := filepath.Join(t.TempDir(), "copy")
			if err := os.WriteFile(path, next.text, 0o600); err != nil {
				t.Fatal(err)
			}
			if done, err := Rekey(Config{Dir: dir, Key: KeySource{File: filepath.Join(dir, generatedName)}}, path); err != nil || !done.Pending {
				t.Fatalf("got %+v, %v", done, err)
			}
		}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			dir := filled(t)
			step.leave(t, dir)
			for range 2 {
				s := mustOpen(t, dir)
				if got := load(t, s); s.Problem() != nil || !reflect.DeepEqual(got, someRecords) {
					t.Errorf("got %v, %v", got, s.Problem())
				}
				if err := s.Settle(); err != nil {
					t.Fatal(err)
				}
				if s.dir.exists(generatedName + nextSuffix) {
					t.Error("the rotation is still not finished")
				}
				mustClose(t, s)
			}
		})
	}
}

// TestRekeyChangesForm seals a plain store, and opens a sealed one up, because
// an operator says so.
func TestRekeyChangesForm(t *testing.T) {
	c := inClear(privateTempDir(t))
	fill(t, c)
	sealed := Config{Dir: c.Dir, Key: KeySource{File: keyFile(t)}}
	for i, to := range []Config{sealed, {Dir: c.Dir, Key: KeySource{Off: true, File: sealed.Key.File}}} {
		leftUntouched(t, to, ErrKey)
		if _, err := Rekey(to, ""); err != nil {
			t.Fatal(err)
		}
		s := mustOpenWith(t, to)
		if got := load(t, s); !reflect.DeepEqual(got, someRecords) {
			t.Errorf("%d: got %v, %v", i, got, s.Problem())
		}
		mustClose(t, s)
	}
	if _, err := Rekey(Config{Dir: privateTempDir(t)}, ""); err == nil {
		t.Error("a store that is not there was rekeyed")
	}
	if _, err := Verify(Config{Dir: filepath.Join(t.TempDir(), "gone")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}
