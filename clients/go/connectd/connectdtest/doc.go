// Package connectdtest is a daemon for the tests of applications, with a
// certificate authority of its own and one line per situation.
package connectdtest
