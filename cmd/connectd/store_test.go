package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectd/connectd/store"
)

// storeConfig is a configuration whose store holds two records.
func storeConfig(t *testing.T) (config, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store")
	s, err := store.Open(store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(map[string]map[string][]byte{"a": {"x": []byte("1"), "y": []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(t.TempDir(), "c.hcl")
	if err := os.WriteFile(config, fmt.Appendf(nil, "store { dir = %q }\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	return config, dir
}

func TestStoreVerifyAndRekey(t *testing.T) {
	config, dir := storeConfig(t)
	got := runCommand(t, "store", "verify", "--config", config)
	if got.code != 0 || !strings.Contains(got.out, "connectd.db  whole, sealed  2") {
		t.Errorf("verify: got %+v", got)
	}
	if got := runCommand(t, "store", "rekey", "--config", config); got.code != 0 || got.out != "2 records written anew\n" {
		t.Errorf("rekey: got %+v", got)
	}
	got = runCommand(t, "store", "verify", "--json", "--config", config)
	if got.code != 0 || strings.Count(got.out, `"sealed": true`) != 2 {
		t.Errorf("verify as JSON: got %+v", got)
	}
	if err := os.Truncate(filepath.Join(dir, "connectd.db"), 5000); err != nil {
		t.Fatal(err)
	}
	if got := runCommand(t, "store", "verify", "--config", config); got.code != 1 || !strings.Contains(got.out, "the store is damaged") {
		t.Errorf("verify damage: got %+v", got)
	}
	if err := os.Remove(filepath.Join(dir, "connectd.key")); err != nil {
		t.Fatal(err)
	}
	got = runCommand(t, "store", "rekey", "--config", config)
	if got.code != exitError || !strings.Contains(got.err, "key is missing or wrong") {
		t.Errorf("rekey without a key: got %+v", got)
	}
}
