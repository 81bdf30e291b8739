//go:build !linux

package scriptstest

import "time"

// CPU returns the wall time that do takes, since the platform has no clock per thread.
func CPU(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}
