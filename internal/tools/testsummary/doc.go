// Command testsummary turns the stream of go test -json into one line per package, failures in full and a closing count.
package main
