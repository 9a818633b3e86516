package main

import (
	"fmt"
	"strings"
)

// A suite is one package under way.
type suite struct {
	counts
	tests  map[string]*test
	order  []*test
	log    strings.Builder
	skips  []string
	cached bool
}

// A test keeps its output until it passes: only then is it certain that nobody needs it.
type test struct {
	name     string
	parent   *test
	output   strings.Builder
	subtests bool
	done     bool
	failed   bool
	// below is true when a subtest failed, which is then the failure to count.
	below bool
}

func newSuite() *suite { return &suite{tests: map[string]*test{}} }

func (s *suite) output(text string) {
	s.log.WriteString(text)
	if strings.HasPrefix(text, "ok ") && strings.Contains(text, "(cached)") {
		s.cached = true
	}
}

func (s *suite) event(e event) {
	t := s.test(e.Test)
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
	case "pass", "bench":
		s.end(t, &s.passed)
		t.output.Reset()
	case "skip":
		s.end(t, &s.skipped)
		s.skips = append(s.skips, t.name+": "+reason(t.output.String()))
	case "fail":
		s.fail(t)
	}
}

// test returns the named test, and creates it below its nearest known ancestor: the name
// of a subtest may itself contain slashes.
func (s *suite) test(name string) *test {
	if t := s.tests[name]; t != nil {
		return t
	}
	t := &test{name: name}
	for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
		if p := s.tests[name[:at]]; p != nil {
			p.subtests = true
			t.parent = p
			break
		}
	}
	s.tests[name] = t
	s.order = append(s.order, t)
	return t
}

func (s *suite) end(t *test, count *int) {
	t.done = true
	if !t.subtests {
		*count++
	}
}

func (s *suite) fail(t *test) {
	t.done, t.failed = true, true
	if !t.below {
		s.failed++
	}
	for p := t.parent; p != nil; p = p.parent {
		p.below = true
	}
}

// close settles a failed package: tests that never ended count as failed, deepest first,
// and a package that fails without a failed test is one failure by itself.
func (s *suite) close() {
	for i := len(s.order) - 1; i >= 0; i-- {
		if t := s.order[i]; !t.done {
			t.output.WriteString("--- did not end: " + t.name + "\n")
			s.fail(t)
		}
	}
	if s.failed == 0 {
		s.failed++
	}
}

func (s *suite) describe(e event) string {
	switch {
	case e.FailedBuild != "":
		return "did not build"
	case e.Action != "fail" && s.counts == counts{}:
		return "no tests"
	case s.cached:
		return fmt.Sprintf("%v, cached", s.counts)
	default:
		return fmt.Sprintf("%v, %.2f s", s.counts, e.Elapsed)
	}
}

// explain returns the whole output of the failed tests, and what the package printed.
func (s *suite) explain() string {
	var b strings.Builder
	for _, t := range s.order {
		if t.failed {
			b.WriteString(indent(t.output.String()))
		}
	}
	b.WriteString(indent(s.log.String()))
	return b.String()
}

// reason returns the last line that a skipped test logged.
func reason(output string) string {
	found := "no reason given"
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			found = line
		}
	}
	return found
}

// indent leaves out the lines that only frame the stream.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "=== ") {
			b.WriteString("      " + strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return b.String()
}
