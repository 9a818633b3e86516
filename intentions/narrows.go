package intentions

import "fmt"

// Narrows reports whether going from one set of intentions to another lets
// nobody in who was out before: rows that deny may come, rows that allow may
// go, and nothing else may change. It may say no to a harmless change.
func Narrows(before, after []Intention) bool {
	had, stays := map[string]bool{}, map[string]bool{}
	for i := range before {
		had[before[i].identity()] = true
	}
	for i := range after {
		x := &after[i]
		stays[x.identity()] = true
		denies := x.Action == "deny" && !x.HasPermissions()
		if !denies && !had[x.identity()] {
			return false
		}
	}
	for i := range before {
		x := &before[i]
		allows := x.ConsulAllows() && x.judgeable() && x.SourcePeer == ""
		if !allows && !stays[x.identity()] {
			return false
		}
	}
	return true
}

// identity is everything that an intention says, without its index.
func (x *Intention) identity() string {
	y := *x
	y.ModifyIndex = 0
	return fmt.Sprintf("%#v", y)
}
