// Package storage contains no code. Below it are one package for each database that
// implements engine.Store, and storetest, the contract suite that each of them must pass.
//
// Packages below storage import only engine from this module; only the wiring imports them.
package storage
