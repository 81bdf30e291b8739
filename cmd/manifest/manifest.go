// Package manifest reads a team's configuration files — event types, scripts with their
// tests, subscriptions, in YAML — and plans the changes that bring a router to that state.
//
// It knows files and the API's data model, but does not call a router: the command
// "switchhook apply" does.
package manifest

import (
	"fmt"
	"strings"

	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

// Set is the desired state that a folder describes.
type Set struct {
	EventTypes    []*EventType
	Scripts       []*Script
	Subscriptions []*Subscription
}

// Position is a place in a file.
type Position struct {
	File string
	Line int // 1-based
}

// String returns "file:line".
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// EventType is the desired state of an event type.
type EventType struct {
	api.EventType // without its times
	Place         Position
}

// Script is a named filter or transform.
type Script struct {
	Place       Position
	Account     string // empty: the account of the key
	Name        string
	Kind        string // "filter" or "transform"
	Description string
	Source      string
	SourceFile  string // empty if the source is inline
	TestsFile   string // empty if there are no cases
	Cases       []scripttest.Case
}

// Suite returns the script with its cases, as the router tests it.
func (s *Script) Suite() scripttest.Suite {
	if s.Kind == "filter" {
		return scripttest.Suite{Filter: s.Source, Cases: s.Cases}
	}
	return scripttest.Suite{Transform: s.Source, Cases: s.Cases}
}

// Value is a text that may contain values from the environment.
type Value struct {
	Text     string
	Template string // the text as written, if it contains variables; otherwise empty
}

// The metadata keys of a subscription that belong to apply.
const (
	OwnKeys    = "switchhook/"
	NameKey    = OwnKeys + "name"
	HeadersKey = OwnKeys + "headers" // a Fingerprint of the headers that the router does not show
)

// Note is the note of the versions that apply creates; it identifies the scripts that apply
// has made.
const Note = "switchhook apply"

// Problem is an error in a file.
type Problem struct {
	File    string
	Line    int // 0 if it concerns the whole file
	Message string
}

// Error returns "file:line: message".
func (m *Problem) Error() string {
	if m.Line == 0 {
		return m.File + ": " + m.Message
	}
	return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.Message)
}

// Problems are all errors in a folder.
type Problems []*Problem

const maxShownProblems = 20

// Error returns one line for each.
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
