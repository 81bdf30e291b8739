//go:build unix

package cmd

import "syscall"

// openFilesLimit returns the maximum number of open files of this process; 0 if unknown. Go
// has raised the soft limit to the hard one before main.
func openFilesLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur)
}
