package treetest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A needle is text that no committed file may contain. Each is written in two halves, so
// that this file does not contain it either.
type needle struct{ text, reason string }

var needles = []needle{
	{"/work" + "/", "a path of one machine means nothing on another"},
	{"../sha" + "red", "a path beside the repository means nothing in another checkout"},
	{"duplicates --cha" + "nge", "a command that others do not have explains nothing to them"},
	{"proxy.go" + "lang.org", registry},
	{"sum.go" + "lang.org", registry},
	{"registry.np" + "mjs.org", registry},
	{"files.python" + "hosted.org", registry},
	{"pypi.org" + "/simple", registry},
	{"index.cra" + "tes.io", registry},
	{"static.cra" + "tes.io", registry},
	{"repo.ma" + "ven.apache.org", registry},
	{"repo1.ma" + "ven.org", registry},
}

const registry = "where packages are fetched from is each builder's own setting"

func TestForbiddenWords(t *testing.T) {
	top := root(t)
	for _, path := range committed(t, top) {
		content, err := os.ReadFile(filepath.Join(top, path))
		if errors.Is(err, fs.ErrNotExist) {
			continue // Deleted, and not yet committed so.
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range contained(content) {
			t.Errorf("%s contains %q: %s", path, n.text, n.reason)
		}
	}
}

func TestNeedlesAreFound(t *testing.T) {
	for _, n := range needles {
		if got := contained([]byte("see <" + n.text + "> there")); !slices.Contains(got, n) {
			t.Errorf("%q is not found", n.text)
		}
	}
	if got := contained([]byte(".github/workflows/test.yml")); len(got) > 0 {
		t.Errorf("got %v, want none", got)
	}
}

func contained(content []byte) []needle {
	return slices.DeleteFunc(slices.Clone(needles), func(n needle) bool { return !bytes.Contains(content, []byte(n.text)) })
}

// committed returns the paths in git's index. Links are left out: their target is not text
// of ours.
func committed(t *testing.T, top string) []string {
	t.Helper()
	index := strings.TrimSpace(git(t, top, "rev-parse", "--git-path", "index"))
	if !filepath.IsAbs(index) {
		index = filepath.Join(top, index)
	}
	// A cached result is valid as long as what the test opened: the list comes from here.
	if _, err := os.ReadFile(index); err != nil {
		t.Fatal(err)
	}
	paths := strings.Split(strings.TrimSuffix(git(t, top, "ls-files", "-z"), "\x00"), "\x00")
	return slices.DeleteFunc(paths, func(path string) bool {
		info, err := os.Lstat(filepath.Join(top, path))
		return err == nil && !info.Mode().IsRegular()
	})
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	switch {
	case err == nil:
		return string(out)
	case os.Getenv("CI") != "":
		t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	default:
		t.Skipf("what is committed is only known in a checkout: git %s: %v", strings.Join(args, " "), err)
	}
	return ""
}
