package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// counts are the outcomes of tests. A test with subtests counts through them.
type counts struct{ passed, failed, skipped int }

func (c *counts) add(o counts) {
	c.passed += o.passed
	c.failed += o.failed
	c.skipped += o.skipped
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// A summary is the state of one run: the packages under way and the builds that failed.
type summary struct {
	w      io.Writer
	trim   string
	total  counts
	suites map[string]*suite
	builds map[string]*build
}

// A build is the compiler's output for one package; several packages can fail by one build.
type build struct {
	output        strings.Builder
	failed, shown bool
}

func newSummary(w io.Writer, trim string) *summary {
	return &summary{w: w, trim: trim, suites: map[string]*suite{}, builds: map[string]*build{}}
}

func (s *summary) event(e event) {
	switch {
	case e.Action == "build-output":
		s.build(e.ImportPath).output.WriteString(e.Output)
	case e.Action == "build-fail":
		s.build(e.ImportPath).failed = true
	case e.Test != "":
		s.suite(e.Package).event(e)
	case e.Action == "output":
		s.suite(e.Package).output(e.Output)
	case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
		s.end(e)
	default:
		s.suite(e.Package)
	}
}

func (s *summary) build(path string) *build {
	if s.builds[path] == nil {
		s.builds[path] = &build{}
	}
	return s.builds[path]
}

func (s *summary) suite(pkg string) *suite {
	if s.suites[pkg] == nil {
		s.suites[pkg] = newSuite()
	}
	return s.suites[pkg]
}

// end closes a package: its line, then what explains a failure or a skip.
func (s *summary) end(e event) {
	p := s.suite(e.Package)
	delete(s.suites, e.Package)
	if e.Action == "fail" {
		p.close()
	}
	s.total.add(p.counts)
	fmt.Fprintf(s.w, "%-4s  %-42s %s\n", mark(e.Action, p), s.short(e.Package), p.describe(e))
	for _, line := range p.skips {
		fmt.Fprintf(s.w, "      skip %s\n", line)
	}
	if e.FailedBuild != "" {
		s.showBuild(e.FailedBuild)
	}
	if e.Action == "fail" {
		io.WriteString(s.w, p.explain())
	}
}

func mark(action string, p *suite) string {
	switch {
	case action == "fail":
		return "FAIL"
	case p.counts == counts{}:
		return "-"
	default:
		return "ok"
	}
}

func (s *summary) short(pkg string) string {
	if rest, ok := strings.CutPrefix(pkg, s.trim+"/"); ok && s.trim != "" {
		return rest
	}
	return pkg
}

func (s *summary) showBuild(path string) {
	b := s.build(path)
	if b.shown {
		fmt.Fprintf(s.w, "      build of %s failed, see above\n", path)
		return
	}
	b.shown = true
	io.WriteString(s.w, indent(b.output.String()))
}

// close prints what never ended and the closing line, and tells whether all is well.
func (s *summary) close() bool {
	for _, pkg := range sortedKeys(s.suites) {
		s.end(event{Action: "fail", Package: pkg, Output: ""})
	}
	for _, path := range sortedKeys(s.builds) {
		if b := s.builds[path]; b.failed && !b.shown {
			s.total.failed++
			fmt.Fprintf(s.w, "FAIL  %s\n", path)
			s.showBuild(path)
		}
	}
	executed := s.total.passed + s.total.failed
	if executed == 0 {
		fmt.Fprintln(s.w, "no test was executed: that is a failure")
	}
	fmt.Fprintf(s.w, "\n%v\n", s.total)
	return executed > 0 && s.total.failed == 0
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
