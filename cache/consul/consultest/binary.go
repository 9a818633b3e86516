package consultest

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/connectd/connectd/cache/consul/consultest/internal/build"
)

// Binary returns the path of the Consul binary, building it when it is not there yet.
// Without one the test is skipped, or fails in CI: there a missing Consul would silently
// remove most of the proof.
func Binary(t testing.TB) string {
	t.Helper()
	return built(t, "Consul", build.Consul)
}

// BuildSDKApp returns the path of sdkapp, under the rules of Binary.
func BuildSDKApp(t testing.TB) string {
	t.Helper()
	return built(t, "sdkapp", build.SDKApp)
}

func built(t testing.TB, name string, compile func(context.Context, io.Writer) (string, error)) string {
	t.Helper()
	// The output of a test is held back until it ends; a build of minutes has to say so before.
	path, err := compile(t.Context(), os.Stderr)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("no %s to test with: %v", name, err)
	default:
		t.Skipf("no %s to test with; run `make consul`, or name a binary in CONNECTD_TEST_CONSUL: %v", name, err)
	}
	return ""
}
