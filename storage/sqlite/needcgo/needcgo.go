// Package needcgo makes a build without cgo fail with a message that names the remedy:
// otherwise the names that go-sqlite3 defines in C would be undefined.
package needcgo
