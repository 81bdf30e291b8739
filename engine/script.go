package engine

import (
	"time"
)

// ScriptKind is the purpose of a script.
type ScriptKind string

// The kinds of scripts.
const (
	KindFilter    ScriptKind = "filter"    // an expr expression that selects events
	KindTransform ScriptKind = "transform" // JavaScript or TypeScript that makes the request
)

// Script is a named filter or transform. Its versions hold the source; one of them is live.
type Script struct {
	ID          ID
	Account     string
	Name        string // unique in its account
	Kind        ScriptKind
	Description string
	Cases       []byte // test cases of its newest version; before there is one, those for the first; not in memory
	Live        int    // the number of the live version; 0 before there is one
	Version     int64  // of this record; increases with each change
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// ScriptVersion is one version of a script. Its source never changes; its test cases are fixed once
// there is a newer version.
type ScriptVersion struct {
	Script    ID
	Number    int // 1 is the first
	Source    string
	Hash      string // SHA-256 of Source, hexadecimal
	Author    string // the name of the key that created it
	Note      string
	Cases     []byte    // tests that must pass before it goes live: JSON, see scripts/suite
	LiveAt    time.Time // when it last went live; zero: never
	CreatedAt time.Time
}

// ScriptRef refers to a version of a script. The zero ScriptRef refers to none.
type ScriptRef struct {
	Script  ID
	Version int // 0 is the live one
}

// ScriptPrefix is the prefix of script ids as users see them.
const ScriptPrefix = "scr"

const (
	// MaxScriptName is the maximum number of characters in the name of a script.
	MaxScriptName = 100
	// MaxScriptNote is the maximum number of characters in the note of a version.
	MaxScriptNote = 1000
	// MaxScriptCases is the maximum number of test cases of a version.
	MaxScriptCases = 200
	// MaxScriptVersions limits how much of the database an account can fill.
	MaxScriptVersions = 10_000
)

// Ref returns a reference to the version; zero for an inline source.
func (v *ScriptVersion) Ref() ScriptRef { return ScriptRef{v.Script, v.Number} }
