package reference

import (
	"encoding/hex"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Normalization says how a request is put in canonical form.
type Normalization struct {
	Path           bool   `json:"path"`
	MergeSlashes   bool   `json:"merge_slashes"`
	EscapedSlashes string `json:"escaped_slashes"`
	Underscores    string `json:"underscores"`
}

var (
	readable     = regexp.MustCompile(`\A/(?:[!$&-~"]|%[0-9A-Fa-f]{2})*\z`)
	suspicious   = regexp.MustCompile(`%|\\|;|//|/\.`)
	escape       = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	escapedSlash = regexp.MustCompile(`(?i)%(?:2f|5c)`)
	unreserved   = regexp.MustCompile(`\A[A-Za-z0-9._~-]\z`)
	control      = regexp.MustCompile(`[\x00-\x1f\x7f]`)
	slashes      = regexp.MustCompile(`/+`)
	parameter    = regexp.MustCompile(`;[^/]*`)
)

// ReadPath returns the two readings of a request target: as Consul's Envoy
// normalizes it, and as the most helpful server could understand it. It
// reports false for a target that nobody should try to understand.
func ReadPath(n Normalization, target string) (consul, aggressive string, ok bool) {
	path, _, _ := strings.Cut(target, "?")
	if len(target) > 8192 || !readable.MatchString(path) {
		return "", "", false
	}
	if !suspicious.MatchString(path) {
		return path, path, true
	}
	if n.EscapedSlashes == "reject" && escapedSlash.MatchString(path) {
		return "", "", false
	}
	aggressive, ok = readAggressively(path)
	return readLikeConsul(n, path), aggressive, ok
}

// readLikeConsul follows Envoy: escaped slashes, canonical path, merged slashes.
func readLikeConsul(n Normalization, path string) string {
	if n.EscapedSlashes == "unescape" {
		path = escapedSlash.ReplaceAllStringFunc(path, decoded)
	}
	if n.Path {
		path = escape.ReplaceAllStringFunc(path, func(e string) string {
			if c := decoded(e); unreserved.MatchString(c) {
				return c
			}
			return e
		})
		path = removeDotSegments(strings.ReplaceAll(path, `\`, "/"))
	}
	if n.MergeSlashes {
		path = slashes.ReplaceAllString(path, "/")
	}
	return path
}

func readAggressively(path string) (string, bool) {
	path = escape.ReplaceAllStringFunc(path, decoded)
	if !utf8.ValidString(path) || control.MatchString(path) || escape.MatchString(path) {
		return "", false
	}
	path = strings.ReplaceAll(path, `\`, "/")
	path = parameter.ReplaceAllString(path, "")
	path = slashes.ReplaceAllString(path, "/")
	return slashes.ReplaceAllString(removeDotSegments(path), "/"), true
}

func decoded(escape string) string {
	b, err := hex.DecodeString(escape[1:])
	if err != nil {
		panic(err)
	}
	return string(b)
}

// removeDotSegments is RFC 3986, section 5.2.4, letter by letter, for a path
// that begins with a slash.
func removeDotSegments(in string) string {
	out := ""
	for in != "" {
		switch {
		case strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"):
			in, out = in[3:], withoutLastSegment(out)
		case in == "/..":
			in, out = "/", withoutLastSegment(out)
		default:
			end := strings.IndexByte(in[1:], '/') + 1
			if end == 0 {
				end = len(in)
			}
			out, in = out+in[:end], in[end:]
		}
	}
	return out
}

func withoutLastSegment(out string) string {
	if last := strings.LastIndexByte(out, '/'); last >= 0 {
		return out[:last]
	}
	return ""
}
