package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// printJSON writes a value for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table aligns rows whose cells are separated by tabs.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) row(cells ...string) {
	for i := range cells {
		cells[i] = oneLine(cells[i])
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t table) flush() error { return t.w.Flush() }

// oneLine keeps text that came from elsewhere from moving the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// date writes a moment for a person.
func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

const day = 24 * time.Hour

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	if d < 0 {
		return "-" + span(-d)
	}
	hours, minutes, seconds := int(d%day/time.Hour), int(d%time.Hour/time.Minute), int(d%time.Minute/time.Second)
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%02dh", d/day, hours)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", hours, minutes)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

// life says how long something still lives at now.
func life(from, to, now time.Time) string {
	left, whole := to.Sub(now), to.Sub(from)
	if left <= 0 {
		return "ended " + span(-left) + " ago"
	}
	if whole <= 0 {
		return span(left) + " left"
	}
	return fmt.Sprintf("%s left, %.0f %% of its life", span(left), min(100, 100*float64(left)/float64(whole)))
}

// neverConfirmed is an age that no daemon reaches: it stands for no
// confirmation at all.
const neverConfirmed = 50 * 365 * 24 * 3600

// confirmed says how fresh an answer is.
func confirmed(freshness string, ageSeconds float64) string {
	if ageSeconds > neverConfirmed {
		return freshness + ", never confirmed by upstream"
	}
	return fmt.Sprintf("%s, confirmed %s ago", freshness, span(time.Duration(ageSeconds*float64(time.Second))))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// orDash keeps an empty cell visible.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plural writes a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
