//go:build unix

package cmd

import "syscall"

// openFilesLimit is how many files this process may have open; 0 where that is not known. Go
// has raised the soft limit to the hard one before main.
func openFilesLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur)
}
