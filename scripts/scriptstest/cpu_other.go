//go:build !linux

package scriptstest

import "time"

// CPU gives the time that do takes: where there is no clock for a thread, that on the wall.
func CPU(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}
