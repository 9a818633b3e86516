package entries

import "fmt"

// Place is a line of a file.
type Place struct {
	File string
	Line int
}

// String returns the place in the form that editors understand.
func (p Place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Error is why a file was refused: where, what, and what to do.
type Error struct {
	Place   Place
	Problem string
	Remedy  string
}

func (e *Error) Error() string { return e.Place.String() + ": " + e.Problem + "; " + e.Remedy }
