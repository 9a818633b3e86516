package devca

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file may be written twice within one tick of the clock that dates it, with
// the same size both times.
func TestDirectoryTrustsDatesOnlyOnceTheyAreOld(t *testing.T) {
	dir := t.TempDir()
	date := time.Now()
	put := func(text string) {
		write(t, dir, "a.hcl", text)
		if err := os.Chtimes(filepath.Join(dir, "a.hcl"), date, date); err != nil {
			t.Fatal(err)
		}
	}
	d := directory{path: dir}
	for _, step := range []struct {
		name, text string
		after      time.Duration
		changed    bool
	}{
		{"first", "one", 0, true},
		{"same", "one", time.Second, false},
		{"same_date_and_size", "two", time.Second, true},
		{"old_now", "two", time.Minute, false},
		{"not_looked_at", "six", time.Minute, false},
		{"other_size", "three", time.Minute, true},
	} {
		put(step.text)
		_, changed, err := d.read(date.Add(step.after))
		if err != nil || changed != step.changed {
			t.Errorf("%s: got changed %v and %v, want %v", step.name, changed, err, step.changed)
		}
	}
}

func TestDirectoryRefusesLargeFilesByName(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "large.hcl", strings.Repeat("#", 2<<20))
	_, err := New(Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "large.hcl:1: the file is too large") {
		t.Errorf("got %v", err)
	}
}

func TestServicesOfFilesAndOfCalls(t *testing.T) {
	const file = `service { name = "web" port = 1 connect { native = true } } service { name = "db" port = 2 connect { native = true } }`
	a := newAuthority(t, Config{
		Intentions: map[string]string{"s.hcl": file},
		Services:   []Service{{Name: "web", Port: 8080}},
	})
	expect := func(want string) {
		t.Helper()
		var got []string
		for _, l := range a.current().local() {
			got = append(got, l.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expect("db web")
	if got := a.current().local()[1].Port; got != 8080 {
		t.Errorf("got port %d, want that of the call", got)
	}
	a.RemoveService("db")
	expect("web")
	if err := a.Replace(map[string]string{"s.hcl": file}); err != nil {
		t.Fatal(err)
	}
	expect("db web")
	if err := a.Replace(nil); err != nil {
		t.Fatal(err)
	}
	expect("web")
}
