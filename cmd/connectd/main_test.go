package main

import (
	"os"
	"testing"

	"github.com/connectd/connectd/daemon"
)

// TestMain lets the test's own binary be the process that reads a store.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == daemon.VerifyCommand {
		os.Exit(start())
	}
	os.Exit(m.Run())
}
