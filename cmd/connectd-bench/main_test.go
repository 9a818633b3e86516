package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/connectd/connectd/daemon"
)

// TestMain lets the test's own binary be the child processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == daemon.VerifyCommand) {
		os.Exit(start())
	}
	os.Exit(m.Run())
}

func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv(consulVariable, "")
	var out, err bytes.Buffer
	code = execute(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

func TestAuthorizeTable(t *testing.T) {
	code, out, stderr := run(t, "authorize", "--rounds", "3", "--requests", "5", "--callers", "2")
	if code != 0 || stderr != "" {
		t.Fatalf("got code %d and %q", code, stderr)
	}
	for _, want := range []string{
		"CPU: ", "Consul: none", "medians of 3 rounds with 5 round trips of each of 2 callers",
		nameOwn, nameCompat, nameBare, nameEcho, "at most 1.1x the bare handler: ", "faster than Consul: not measured",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, nameConsul) {
		t.Errorf("the table has Consul without one:\n%s", out)
	}
}

func TestAuthorizeJSON(t *testing.T) {
	code, out, stderr := run(t, "authorize", "--rounds", "2", "--requests", "3", "--json")
	var r authorizeReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || stderr != "" {
		t.Fatalf("got code %d, %q and %v from %s", code, stderr, err, out)
	}
	if r.Rounds != 2 || r.Requests != 3 || r.Callers != 1 || r.Machine.Cores < 1 || len(r.Peers) != 4 {
		t.Errorf("got %+v", r)
	}
	for _, p := range r.Peers {
		if p.P50 <= 0 || p.P99 < p.P50 || p.OfBare <= 0 || p.OfEcho <= 0 || p.FasterThanConsul != 0 {
			t.Errorf("got %+v", p)
		}
		if p.Name == nameBare && p.OfBare != 1 || p.Name == nameEcho && p.OfEcho != 1 {
			t.Errorf("%s is not the measure of itself: %+v", p.Name, p)
		}
	}
}

func TestDecide(t *testing.T) {
	args := []string{"decide", "--sizes", "10,1000", "--opa-sizes", "10", "--rounds", "2", "--slice", "10us"}
	code, out, stderr := run(t, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("got code %d and %q", code, stderr)
	}
	for _, want := range []string{
		"CPU: ", "map lookup, 1000 names", "decision, 1000 intentions: at most 5x the map: ", "; at most 80 ns: ", "; 0 allocations: met",
		"Open Policy Agent, 10 intentions\n", "judged twice",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	_, out, _ = run(t, append(args, "--json")...)
	var r decideReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(r.Rows) != 11 {
		t.Fatalf("got %d rows: %+v", len(r.Rows), r)
	}
	for _, row := range r.Rows {
		if row.Time <= 0 || (row.Base == "") != (row.TimesBase == 0) {
			t.Errorf("got %+v", row)
		}
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"authorize --rounds 0", "at least 1"},
		{"authorize --consul /nowhere/consul", "/nowhere/consul"},
		{"decide --sizes 0", "at least 1"},
		{"decide --rounds 0", "at least 1"},
		{"decide --sizes 10 --opa-sizes 11", "--sizes lacks"},
		{"everything", "everything"},
	} {
		t.Run(strings.Fields(c.args)[0], func(t *testing.T) {
			code, _, stderr := run(t, strings.Fields(c.args)...)
			if code != 1 || !strings.Contains(stderr, c.want) {
				t.Errorf("%s: got code %d and %q, want %q", c.args, code, stderr, c.want)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v: got %v, want %v", c.values, got, c.want)
		}
	}
}
