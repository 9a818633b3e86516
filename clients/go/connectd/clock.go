package connectd

import "time"

// stopwatch measures time since it was started, the time that the machine was
// suspended included where the system tells it: a policy grows old in the lid
// of a laptop too.
type stopwatch struct {
	began time.Time
	boot  time.Duration
}

func startStopwatch() stopwatch { return stopwatch{began: time.Now(), boot: sinceBoot()} }

// elapsed takes the longer of the two measures. The error that a clock can
// make is then to deny too early.
func (s stopwatch) elapsed() time.Duration { return max(time.Since(s.began), sinceBoot()-s.boot) }
