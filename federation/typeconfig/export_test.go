package typeconfig

import "time"

// Settling returns a function that tells how long a type has to settle still.
func Settling(r Running, began time.Time) func(patience time.Duration, now time.Time) time.Duration {
	a := &active{running: r, unsettled: began}
	return a.settles
}
