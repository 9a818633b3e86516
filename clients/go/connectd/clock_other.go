//go:build !linux

package connectd

import "time"

// sinceBoot is not known here: time spent suspended is not counted.
func sinceBoot() time.Duration { return 0 }
