//go:build race

package store

// raceEnabled is true where the race detector maps terabytes that are never
// used, and a limit on address space would stop any program.
const raceEnabled = true
