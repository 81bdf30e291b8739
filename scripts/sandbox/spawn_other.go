//go:build !linux

package sandbox

import (
	"os"
	"syscall"
	"time"
)

func executable() (string, error) { return os.Executable() }

func attributes(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func sharedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "switchhook-sandbox-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	return f, f.Truncate(sharedBytes)
}

// cpuOf is not available on this platform; the watchdog uses wall time instead.
func cpuOf(int) (used time.Duration, ok bool) { return 0, false }
