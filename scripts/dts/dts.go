// Package dts generates TypeScript declarations for editors: the types of the event, the
// request, the helpers, and event.data from the JSON Schemas of event types.
//
// It only generates text; the helpers are implemented in scripts/transform.
package dts

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed switchhook.d.ts
var declarations string

//go:embed tsconfig.json
var tsconfig string

// Declarations is the text of switchhook.d.ts.
func Declarations() string { return declarations }

// Config is a tsconfig.json for use with Declarations. Without one, editors treat a script as
// browser code.
func Config() string { return tsconfig }

// EventType is a registered event type. Schema is its JSON Schema, nil if it has none.
type EventType struct {
	Name        string
	Description string
	Schema      []byte
}

// Events returns the text of events.d.ts: the types of event.data by event type. An event
// type whose schema is missing or can't be read has data of type any.
func Events(all []EventType) string {
	all = slices.SortedFunc(slices.Values(all), func(a, b EventType) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	b.WriteString("// Types of event.data, written by `switchhook types --server`. Do not edit: run it again.\n\ninterface SwitchhookEvents {\n")
	for _, t := range all {
		text, note := "any", "no schema is registered"
		if t.Schema != nil {
			typed, err := ForSchema(t.Name, t.Schema)
			if err != nil {
				note = err.Error()
			} else {
				text, note = strings.ReplaceAll(typed, "\n", "\n  "), ""
			}
		}
		comment(&b, "  ", strings.TrimSpace(t.Description), note)
		fmt.Fprintf(&b, "  %s: %s\n", propertyName(t.Name), text)
	}
	b.WriteString("}\n")
	return b.String()
}
