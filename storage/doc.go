// Package storage has no code of its own: below it lies one package for each database
// that can keep what engine.Store asks for, and storetest, the suite that each of them
// must pass.
//
// Packages below storage import engine and nothing else of ours; nothing but the wiring
// imports them.
package storage
