package server

import (
	"cmp"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/server/api"
)

// saveAliases stores the client's field names on a subscription, to echo them in responses.
func (t *aliasTranslation) saveAliases(sub *engine.Subscription) {
	for ours, name := range t.names {
		if sub.Names == nil {
			sub.Names = map[string]string{}
		}
		if ours == "event" || ours == "events" { // both have the same shape
			delete(sub.Names, "event")
			delete(sub.Names, "events")
		}
		sub.Names[ours] = name
	}
}

// withClientFieldNames rewrites an error's field to the client's name for it.
func (t *aliasTranslation) withClientFieldNames(err error) error {
	rename := func(field string) (string, bool) {
		name, rest := field, ""
		if i := strings.IndexAny(field, ".["); i >= 0 {
			name, rest = field[:i], field[i:]
		}
		place := t.places[name]
		if one := t.places["event"]; place == "" && name == "events" && one != "" {
			place, rest = one, "" // the client sent one name, not a list
		}
		if place == "" && name == "event" {
			place = t.places["events"]
		}
		return place + rest, place != "" && place != name
	}
	switch e := err.(type) {
	case *api.Error:
		if field, ok := rename(e.Field); ok {
			theirs := *e
			theirs.Field, theirs.Detail = field, field+strings.TrimPrefix(e.Detail, e.Field)
			return &theirs
		}
	case *engine.Error:
		return engine.RenameFields(e, func(field string) string {
			if name, ok := rename(field); ok {
				return name
			}
			return field
		})
	}
	return err
}

// aliasFields returns the extra members of a subscription's view: those in the terms of the client that
// created it. A name that has another meaning in the view is left out.
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
			value = timeOrNull(sub.ExpiresAt)
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
