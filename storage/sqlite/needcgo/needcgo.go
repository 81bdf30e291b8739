// Package needcgo makes a build without cgo fail with a message that says what to do:
// go-sqlite3 would leave the names that it defines in C undefined.
package needcgo
