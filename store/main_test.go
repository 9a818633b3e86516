package store

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// envWriter makes the test binary be a process that writes to the store in a
// directory until it is killed.
const envWriter = "CONNECTD_TEST_STORE_WRITER"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == VerifyCommand {
		os.Exit(VerifyMain(os.Args[2:]))
	}
	if dir := os.Getenv(envWriter); dir != "" {
		fmt.Fprintln(os.Stderr, beWriter(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
