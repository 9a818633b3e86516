package main

import (
	"fmt"
	"strings"
)

// pathSample is a request target with what it is about.
type pathSample struct {
	path    text
	flags   []string
	comment string
}

// pathLines are targets with a flag and a comment in front.
const pathLines = `
plain|A plain path.|/public/a
plain|The root.|/
plain|A slash at the end.|/public/
plain|A dot within a segment is no dot segment.|/public/a.b..c
plain|A segment of three dots is no dot segment.|/public/...
plain|A hidden file is no dot segment.|/public/.well-known
escaped-slash|An escaped slash hides a segment.|/public%2Fadmin
escaped-slash|An escaped slash in lower case.|/public%2fadmin
escaped-slash|An escaped slash in front of the guarded segment.|/%2Fadmin
escaped-slash|An escaped slash behind the guarded segment.|/admin%2Fx
escaped-slash|Escaped slashes around dot segments.|/public%2F..%2Fadmin
escaped-slash|An escaped slash behind dot segments.|/public/..%2Fadmin
escaped-slash|An escaped slash in front of dot segments.|/public%2F../admin
escaped-slash|A whole path in escapes.|/%2e%2e%2f%2e%2e%2fadmin
escaped-slash|An escaped backslash.|/public%5Cadmin
escaped-slash|An escaped backslash in lower case with dot segments.|/public%5c..%5cadmin
escaped-slash|An escaped slash twice.|/public%2F%2Fadmin
escaped-slash|An escaped slash at the end.|/admin%2F
escaped-dot|An escaped dot segment.|/public/%2e%2e/admin
escaped-dot|An escaped dot segment in upper case.|/public/%2E%2E/admin
escaped-dot|Half an escaped dot segment.|/public/.%2e/admin
escaped-dot|The other half.|/public/%2e./admin
escaped-dot|A single escaped dot.|/public/%2e/a
escaped-dot|A single escaped dot in front of the guarded segment.|/%2e/admin
escaped-dot|An escaped dot within a name.|/public/a%2eb
escaped-dot|Escaped dot segments at the end.|/public/a/%2e%2e
double-encoding|A doubly encoded slash.|/public%252Fadmin
double-encoding|A doubly encoded dot segment.|/public/%252e%252e/admin
double-encoding|A trebly encoded dot.|/public/%25252e%25252e/admin
double-encoding|An escaped percent sign that makes no escape.|/public/100%25
double-encoding|An escaped percent sign in front of letters that are no digits.|/public/%25zz
double-encoding|An escaped percent sign in front of an escaped digit.|/public/%25%32%46admin
double-encoding|An escaped percent sign in front of one digit.|/public/%252
backslash|A backslash for a slash.|/public\admin
backslash|Backslashes around dot segments.|/public\..\admin
backslash|A backslash behind a slash.|/\admin
backslash|Two backslashes in front.|/\\admin
backslash|A backslash behind dot segments.|/public/..\admin
backslash|A backslash at the end.|/admin\
parameter|A parameter behind the guarded segment.|/admin;x=1
parameter|A parameter in front of a slash.|/admin;x=1/users
parameter|A parameter behind dot segments.|/public/..;/admin
parameter|A parameter with a value behind dot segments.|/public/..;a=b/admin
parameter|A parameter behind a single dot.|/public/.;/admin
parameter|An empty segment with a parameter.|/;x/admin
parameter|An empty segment with a parameter in front of dot segments.|/public/;x/../admin
parameter|An empty segment with a parameter and two dot segments.|/public/a/;x/../../admin
parameter|An escaped semicolon behind dot segments.|/public/..%3B/admin
parameter|An escaped semicolon behind the guarded segment.|/admin%3Bx
parameter|A parameter alone.|/;
parameter|Parameters in every segment.|/public;a/x;b/y;c
slashes|Two slashes in front.|//admin
slashes|Three slashes in front.|///admin
slashes|Two slashes within.|/public//admin
slashes|Two slashes behind.|/admin//
slashes|Dot segments behind two slashes.|/public//../admin
slashes|Two dot segments behind two slashes.|/public//../../admin
slashes|Many slashes.|/public////////a
dot-segment|A dot segment leads out.|/public/../admin
dot-segment|Two dot segments lead beyond the root.|/public/../../admin
dot-segment|A dot segment in front.|/../admin
dot-segment|A single dot in front.|/./admin
dot-segment|A dot segment at the end.|/admin/x/..
dot-segment|A single dot at the end.|/admin/.
dot-segment|Dot segments only.|/..
dot-segment|A single dot only.|/.
dot-segment|Dot segments that come back.|/public/../public/a
dot-segment|Dot segments among single dots.|/public/./.././admin
dot-segment|Dot segments with a space in front.|/public/%20../admin
dot-segment|Dot segments with a space behind.|/public/..%20/admin
query|A query.|/public/a?x=1
query|Dot segments in a query.|/public/a?x=/../../admin
query|A query with escapes and bytes of all kinds.|/public/a?x=%zz%00\#;é
query|An empty query.|/admin?
query|An escaped question mark is no query.|/public/a%3F/../../admin
query|An escaped question mark behind the guarded segment.|/admin%3Fx=1
query|A question mark in front of the path.|?/public/a
fragment|A fragment.|/public/a#x
fragment|A fragment hides the rest.|/admin#/public/
fragment|An escaped number sign is no fragment.|/public/a%23
fragment|An escaped number sign behind the guarded segment.|/admin%23
utf-8|Text in escapes.|/public/%C3%A9
utf-8|Text in escapes in lower case.|/public/%e6%97%a5
utf-8|An overlong slash in two bytes.|/public%C0%AFadmin
utf-8|An overlong slash in three bytes.|/public%E0%80%AFadmin
utf-8|An overlong dot segment.|/public/%C0%AE%C0%AE/admin
utf-8|A lone continuation byte.|/public/%80
utf-8|A lone first byte.|/public/%C3
utf-8|Half a surrogate pair.|/public/%ED%A0%80
utf-8|A byte that UTF-8 never has.|/public/%FF
utf-8|A full-width slash is a letter.|/public%EF%BC%8Fadmin
utf-8|A full-width dot is a letter.|/public/%EF%BC%8E%EF%BC%8E/admin
utf-8|Raw text.|/public/é
utf-8|Raw full-width letters.|/ａdmin
control-byte|An escaped NUL.|/public/%00
control-byte|An escaped NUL behind the guarded segment.|/admin%00
control-byte|An escaped line feed.|/public/%0Aadmin
control-byte|An escaped carriage return and line feed.|/public/%0d%0a
control-byte|An escaped tab.|/public/%09
control-byte|An escaped delete.|/public/%7f
control-byte|A raw space.|/public/a b
control-byte|A space in front of the guarded segment.|/ admin
bad-escape|A percent sign at the end.|/public/%
bad-escape|One digit behind a percent sign.|/public/%2
bad-escape|No digits behind a percent sign.|/public/%zz
bad-escape|One digit that is none.|/public/%2g
bad-escape|Two percent signs.|/public/%%2e
bad-escape|The other way of writing escapes.|/public/%u002e
escape|An escaped letter of the guarded segment.|/%61dmin
escape|All letters of the guarded segment escaped.|/%61%64%6d%69%6e
escape|An escaped letter in upper case.|/%41dmin
escape|An escaped tilde, dash and underscore.|/public/%7E%2D%5F
escape|An escaped space.|/public/a%20b
escape|Escaped signs that servers leave alone.|/public/%21%24%26%27%28%29%2A%2B%2C%3D%3A%40
escape|Escapes in lower and in upper case.|/public/%3d%3D
case|The guarded segment in upper case is another.|/ADMIN
case|The guarded segment in mixed case behind dot segments.|/public/../Admin
target|An empty target.|
target|A star.|*
target|No slash in front.|admin
target|A whole URI.|http://db.test/admin
target|A host and a port.|db.test:443
`

func pathSamples() []pathSample {
	var out []pathSample
	for line := range strings.SplitSeq(strings.Trim(pathLines, "\n"), "\n") {
		f := strings.SplitN(line, "|", 3)
		out = append(out, pathSample{plain(f[2]), []string{"normalization", f[0]}, f[1]})
	}
	for _, c := range []string{"\x00", "\t", "\n", "\r", "\x1f", "\x7f", "\x80", "\xc0\xaf", "\xff"} {
		out = append(out, pathSample{
			join(plain("/public/a"), plain(c), plain("b")), []string{"normalization", "control-byte"},
			fmt.Sprintf("The raw bytes %x.", c),
		})
	}
	for _, n := range []int{8191, 8192, 8193} {
		size := fmt.Sprintf("of %d bytes; the limit is 8192.", n)
		flags := []string{"normalization", "oversized"}
		out = append(out,
			pathSample{join(plain("/public/"), repeat("a", n-8)), flags, "A path " + size},
			pathSample{join(plain("/public/a?"), repeat("q", n-10)), flags, "A path with a query, together " + size},
			pathSample{join(plain("/public/"), repeat("a", (n-8)%3), repeat("%61", (n-8)/3)), flags, "A path of escapes " + size},
			pathSample{join(plain("/public/"), repeat("/", n-13), plain("admin")), flags, "A path of slashes " + size},
			pathSample{join(plain("/public"), repeat("/..", (n-13)/3), repeat("/", (n-13)%3), plain("/admin")), flags, "A path of dot segments " + size},
		)
	}
	return out
}
