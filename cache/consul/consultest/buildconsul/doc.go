// Command buildconsul compiles the Consul binary that tests use and prints its
// path, so that the slow first build can happen ahead of the tests.
package main
