package server

import (
	"cmp"
	"slices"
	"strings"

	"switchhook/engine"
)

// saveAliases notes the client's names on a subscription, so that it finds them in answers.
func (t *aliasTranslation) saveAliases(sub *engine.Subscription) {
	for ours, name := range t.names {
		if sub.Names == nil {
			sub.Names = map[string]string{}
		}
		if ours == "event" || ours == "events" { // in one shape
			delete(sub.Names, "event")
			delete(sub.Names, "events")
		}
		sub.Names[ours] = name
	}
}

// withClientFieldNames lets an error name the client's member where it names ours.
func (t *aliasTranslation) withClientFieldNames(err error) error {
	rename := func(field string) (string, bool) {
		name, rest := field, ""
		if i := strings.IndexAny(field, ".["); i >= 0 {
			name, rest = field[:i], field[i:]
		}
		place := t.places[name]
		if one := t.places["event"]; place == "" && name == "events" && one != "" {
			place, rest = one, "" // it was one name, not a list
		}
		if place == "" && name == "event" {
			place = t.places["events"]
		}
		return place + rest, place != "" && place != name
	}
	switch e := err.(type) {
	case *Problem:
		if field, ok := rename(e.Field); ok {
			theirs := *e
			theirs.Field, theirs.Detail = field, field+strings.TrimPrefix(e.Detail, e.Field)
			return &theirs
		}
	case *engine.Error:
		if field, ok := rename(e.Field); ok {
			theirs := *e
			theirs.Field = field
			return &theirs
		}
	}
	return err
}

// aliasFields gives the members that a subscription's view has besides its own: what the client
// that made it calls ours. A name that means something else in the view is left out.
func aliasFields(sub *engine.Subscription) []aliasField {
	var list []aliasField
	for ours, name := range sub.Names {
		if slices.Contains(viewNames, name) {
			continue
		}
		var value any
		switch ours {
		case "target_url":
			value = sub.TargetURL
		case "event":
			if value = sub.Events; len(sub.Events) == 1 {
				value = sub.Events[0]
			}
		case "events":
			value = sub.Events
		case "active":
			switch value = sub.Active; fold(name) {
			case "status":
				value = map[bool]string{true: "active", false: "inactive"}[sub.Active]
			case "disabled":
				value = !sub.Active
			}
		case "expires_at":
			value = expiry(sub)
		default:
			continue
		}
		list = append(list, aliasField{name, value})
	}
	slices.SortFunc(list, func(a, b aliasField) int { return cmp.Compare(a.name, b.name) })
	return list
}

type aliasField struct {
	name  string
	value any
}
