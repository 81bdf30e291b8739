package engine

import (
	"time"
)

// ScriptKind says what a script is for.
type ScriptKind string

// The kinds of scripts.
const (
	KindFilter    ScriptKind = "filter"    // an expr expression: which events
	KindTransform ScriptKind = "transform" // JavaScript or TypeScript: what is sent
)

// Script is a named filter or transform. Its source stands in its versions; one of them
// is live.
type Script struct {
	ID          ID
	Account     string
	Name        string // unique in its account
	Kind        ScriptKind
	Description string
	Cases       []byte // those of its newest version; before there is one, those that the first gets
	Live        int    // the number of the live version; 0 before there is one
	Version     int64  // of this record; grows with each change
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// ScriptVersion is one version of a script. Its source never changes, nor do its cases
// once there is a newer one.
type ScriptVersion struct {
	Script    ID
	Number    int // 1 is the first
	Source    string
	Hash      string // SHA-256 of Source, hexadecimal
	Author    string // the name of the key that made it
	Note      string
	Cases     []byte    // tests that it must pass to go live: JSON, see scripts/suite
	LiveAt    time.Time // when it went live, the last time; zero: never
	CreatedAt time.Time
}

// ScriptRef names a script's version. The zero ScriptRef names none.
type ScriptRef struct {
	Script  ID
	Version int // 0 is whichever is live
}

// ScriptPrefix is the prefix of script ids as users see them.
const ScriptPrefix = "scr"

const (
	// MaxScriptName is how many characters the name of a script may have.
	MaxScriptName = 100
	// MaxScriptNote is how many characters the note of a version may have.
	MaxScriptNote = 1000
	// MaxScriptCases is how many bytes the test cases of a version may have.
	MaxScriptCases = 200
	// MaxScriptVersions bounds what an account can fill the database with.
	MaxScriptVersions = 10_000
)

// Ref names the version; it is zero for a source that is a subscription's own.
func (v *ScriptVersion) Ref() ScriptRef { return ScriptRef{v.Script, v.Number} }
