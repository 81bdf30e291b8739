// Package manifest reads what a team keeps of its routing in files — event types, scripts
// with their tests, subscriptions, in YAML — and plans how a router gets there.
//
// It knows files and the API's words, and neither asks a router nor changes one: the
// command "switchhook apply" does.
package manifest

import (
	"encoding/json"
	"fmt"
	"strings"

	"switchhook/engine"
	"switchhook/engine/signature"
	"switchhook/scripts/scripttest"
)

// Set is what a folder says that there must be.
type Set struct {
	EventTypes    []*EventType
	Scripts       []*Script
	Subscriptions []*Subscription
}

// Position is where a thing stands.
type Position struct {
	File string
	Line int // 1-based
}

// String is "file:line".
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// EventType is an entry of the catalogue.
type EventType struct {
	Place       Position          `json:"-"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Schema      json.RawMessage   `json:"schema"` // null where there is none
	Samples     []json.RawMessage `json:"samples"`

	Verify engine.VerificationMode `json:"verify"` // asked of targets that subscribe to it; empty: nothing
}

// Script is a filter or a transform that has a name.
type Script struct {
	Place       Position
	Account     string // empty: the one that the key belongs to
	Name        string
	Kind        string // "filter" or "transform"
	Description string
	Source      string
	SourceFile  string // empty where the source stands in the YAML
	TestsFile   string // empty where there are no cases
	Cases       []scripttest.Case
}

// Suite is the script alone with its cases, as the router tests it.
func (s *Script) Suite() scripttest.Suite {
	if s.Kind == "filter" {
		return scripttest.Suite{Filter: s.Source, Cases: s.Cases}
	}
	return scripttest.Suite{Transform: s.Source, Cases: s.Cases}
}

// Subscription asks for events.
type Subscription struct {
	Place           Position
	Account         string // empty: the one that the key belongs to
	Name            string // its identity, in metadata under NameKey
	Events          []string
	TargetURL       Value
	Filter          string
	FilterScript    *Ref
	Transform       string
	TransformScript *Ref
	Headers         map[string]Value
	VisibleHeaders  []string // those whose values the router shows
	PayloadFormat   string
	Policy          engine.Policy // zero fields: the router's defaults
	Batch           engine.Batch
	Debounce        engine.Debounce
	Signatures      []signature.Scheme // none: the standard one
	Numbered        bool
	Verify          engine.VerificationMode // asked of its target at least; empty: as it is
	Description     string
	Metadata        map[string]string // without the keys that begin with OwnKeys
	Active          *bool             // nil: it stays as it is, or is active if it is new
}

// Ref names a script, in the account of who refers to it.
type Ref struct {
	Name    string
	Version int // 0: the live one
}

// String says which.
func (r *Ref) String() string {
	if r.Version == 0 {
		return r.Name
	}
	return fmt.Sprintf("%s, version %d", r.Name, r.Version)
}

// Value is a text that may stand in the environment.
type Value struct {
	Text     string
	Template string // as it is written, where something was put in from the environment; else empty
}

// The keys of a subscription's metadata that belong to apply.
const (
	OwnKeys    = "switchhook/"
	NameKey    = OwnKeys + "name"
	HeadersKey = OwnKeys + "headers" // a Fingerprint of the headers that the router does not show
)

// Note is the note of versions that apply makes; it tells which scripts apply has made.
const Note = "switchhook apply"

// Problem is something wrong in a file.
type Problem struct {
	File    string
	Line    int // 0 where it is the whole file
	Message string
}

// Error is "file:line: message".
func (m *Problem) Error() string {
	if m.Line == 0 {
		return m.File + ": " + m.Message
	}
	return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.Message)
}

// Problems is all that is wrong in a folder.
type Problems []*Problem

const maxShownProblems = 20

// Error is a line for each.
func (all Problems) Error() string {
	lines := make([]string, 0, len(all))
	for i, m := range all {
		if i == maxShownProblems {
			lines = append(lines, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		lines = append(lines, m.Error())
	}
	return strings.Join(lines, "\n")
}
