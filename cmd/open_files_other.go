//go:build !unix

package cmd

// openFilesLimit returns the maximum number of open files of this process; 0: unknown on
// this system.
func openFilesLimit() uint64 { return 0 }
