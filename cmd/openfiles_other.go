//go:build !unix

package cmd

// openFilesLimit is how many files this process may have open; 0: that is not known here.
func openFilesLimit() uint64 { return 0 }
