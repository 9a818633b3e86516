package reference

import "testing"

// TestRemoveDotSegments has the examples of RFC 3986, section 5.4, as paths.
func TestRemoveDotSegments(t *testing.T) {
	for in, want := range map[string]string{
		"/a/b/c/./../../g": "/a/g", "/b/c/..": "/b/", "/b/c/.": "/b/c/", "/b/c/../..": "/", "/../g": "/g", "/./g": "/g",
		"/g.": "/g.", "/.g": "/.g", "/g..": "/g..", "/..g": "/..g", "/a/./g/.": "/a/g/", "/a/g/../h": "/a/h", "/a//../b": "/a/b", "/": "/",
	} {
		if got := removeDotSegments(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
