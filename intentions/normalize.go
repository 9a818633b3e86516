package intentions

import (
	"strings"
	"unicode/utf8"
)

// paths are the readings of one request path. Most paths have one; a path
// with suspicious bytes has two, and only a decision that both agree on holds.
type paths struct {
	// consul is the path as Consul's Envoy would normalize it.
	consul string
	// aggressive is the path as the most helpful server could understand it.
	aggressive string
}

// readPath cuts query off and normalizes. It returns false for a path that
// nobody should try to understand: not absolute, a fragment, control bytes,
// raw non-ASCII, broken or doubled escapes, over 8 KiB, or an escaped slash
// where the mesh rejects those.
func readPath(target string, n *Normalization) (paths, bool) {
	path := target
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if path == "" || path[0] != '/' || len(target) > maxPathBytes {
		return paths{}, false
	}
	suspicious, ok := inspect(path)
	if !ok {
		return paths{}, false
	}
	if !suspicious {
		return paths{path, path}, true
	}
	consul, ok := consulPath(path, n)
	if !ok {
		return paths{}, false
	}
	aggressive, ok := aggressivePath(path)
	return paths{consul, aggressive}, ok
}

// inspect looks at every byte once. A path is suspicious if two servers could
// read it differently, and not ok if it is beyond reading.
func inspect(path string) (suspicious, ok bool) {
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return true, false
		case c == '%':
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return true, false
			}
			suspicious = true
		case c == '\\' || c == ';':
			suspicious = true
		case c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.'):
			suspicious = true
		}
	}
	return suspicious, true
}

// consulPath follows Envoy's order: escaped slashes, then the canonical path,
// then merged slashes.
func consulPath(path string, n *Normalization) (string, bool) {
	if hasEscapedSlash(path) {
		switch n.EscapedSlashes {
		case SlashesReject:
			return "", false
		case SlashesUnescape:
			path = unescapeSome(path, func(c byte) bool { return c == '/' || c == '\\' })
		}
	}
	if n.Path {
		path = unescapeSome(path, isUnreserved)
		path = resolveDots(strings.ReplaceAll(path, `\`, "/"))
	}
	if n.MergeSlashes {
		path = mergeSlashes(path)
	}
	return path, true
}

// aggressivePath decodes every escape once, turns backslashes, merges slashes,
// drops path parameters and resolves dots. A path that still has escapes
// afterwards, or is not UTF-8, is beyond reading.
func aggressivePath(path string) (string, bool) {
	path = unescapeSome(path, func(byte) bool { return true })
	if !utf8.ValidString(path) {
		return "", false
	}
	for i := range len(path) {
		c := path[i]
		doubled := c == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2])
		if c < ' ' || c == 0x7f || doubled {
			return "", false
		}
	}
	path = mergeSlashes(strings.ReplaceAll(path, `\`, "/"))
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	// What only held parameters is empty now: a server that merges slashes
	// takes it for nothing, and ".." then removes the segment in front of it.
	path = mergeSlashes(strings.Join(segments, "/"))
	return mergeSlashes(resolveDots(path)), true
}

func hasEscapedSlash(path string) bool {
	for i := 0; i+2 < len(path); i++ {
		if path[i] == '%' {
			if c := unhex(path[i+1])<<4 | unhex(path[i+2]); c == '/' || c == '\\' {
				return true
			}
		}
	}
	return false
}

// unescapeSome decodes, once, the escapes of the bytes that are wanted. The
// escapes were checked.
func unescapeSome(path string, want func(byte) bool) string {
	if !strings.Contains(path, "%") {
		return path
	}
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' {
			if c := unhex(path[i+1])<<4 | unhex(path[i+2]); want(c) {
				out = append(out, c)
				i += 2
				continue
			}
		}
		out = append(out, path[i])
	}
	return string(out)
}

// resolveDots removes the segments "." and ".." as RFC 3986 (section 5.2.4)
// does; empty segments stay.
func resolveDots(path string) string {
	in := strings.Split(path[1:], "/")
	out := make([]string, 0, len(in))
	for i, s := range in {
		last := i == len(in)-1
		switch s {
		case ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, s)
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

func mergeSlashes(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

// isUnreserved reports the bytes whose escapes RFC 3986 (section 2.3) calls
// equal to themselves.
func isUnreserved(c byte) bool { return isNameByte(c) || c == '~' }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}
