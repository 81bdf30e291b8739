package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// fieldAliases lists, by our name, the names that clients of other services use for the members of a
// subscription. Names are compared without case, "_" and "-". A name in ambiguousAliases often has
// another meaning: it counts only if no other name sets the same member.
var fieldAliases = map[string][]string{
	"target_url": {"target_url", "hook_url", "url", "webhook_url", "callback_url", "callback", "endpoint", "endpoint_url", "notification_url",
		"destination", "uri", "address", "target", "sink"},
	"event": {"event", "event_type", "event_name", "event_key", "topic", "trigger", "webhook_event",
		"events", "event_types", "event_names", "topics", "triggers", "subscribed_events", "enabled_events", "filter_types",
		"type", "types", "scope", "subscription_type", "hook"},
	"active":     {"active", "is_active", "enabled", "status", "disabled"}, // disabled is inverted
	"expires_at": {"expires_at"},
	"expires_in": {"expires_in"},
}

var ambiguousAliases = []string{"type", "types", "scope", "subscriptiontype", "hook"}

// wrappers are the members in which clients nest a subscription.
var wrappers = []string{"subscription", "webhook", "hook", "data", "config"}

// longestName bounds the echoed names; a name may have any number of "_".
const longestName = 40

func fold(name string) string { return separators.Replace(strings.ToLower(name)) }

var separators = strings.NewReplacer("_", "", "-", "")

// foldedNames is the inverse of fieldAliases.
var foldedNames = func() map[string]string {
	folded := map[string]string{}
	for ours, names := range fieldAliases {
		for _, name := range names {
			folded[fold(name)] = ours
		}
	}
	return folded
}()

// ownNames are the API's members of a subscription.
var ownNames = wire.Names(&api.SubscriptionRequest{})

// aliasedField is one request field together with the alias the client used for it.
type aliasedField struct {
	name  string // the client's name
	path  string // its path in the body: "hook.target"
	value jsonindex.Value
}

// aliasTranslation is a request body translated to the API's members.
type aliasTranslation struct {
	members []aliasedField            // by our names
	groups  map[string][]aliasedField // members with several names, by the keys of fieldAliases
	names   map[string]string         // the client's names, for Subscription.Names
	places  map[string]string         // the API's name → its path in the body
	form    bool                      // all values are texts
	texts   map[string][]byte         // the API's members, as JSON
	used    map[string]bool           // paths that were translated
	flags   []aliasedField            // members such as "push_events": true, one per event
	client  clientChange              // members that were not translated
	stored  *engine.Subscription      // the subscription being changed; nil if it is new
}

func newTranslation(form bool, stored *engine.Subscription) *aliasTranslation {
	return &aliasTranslation{groups: map[string][]aliasedField{}, names: map[string]string{}, places: map[string]string{}, form: form, texts: map[string][]byte{}, used: map[string]bool{}, stored: stored}
}

// translate translates an object that describes a subscription. stored is the subscription being changed,
// or nil.
func translate(root jsonindex.Value, form bool, stored *engine.Subscription) (*aliasTranslation, error) {
	t := newTranslation(form, stored)
	if err := t.read(root, ""); err != nil {
		return nil, err
	}
	for _, m := range t.members {
		if _, twice := t.texts[m.name]; twice {
			return nil, invalidField(m.path, "says what "+t.places[m.name]+" says already; give one of them")
		}
		t.put(m.name, m, t.typed(m))
	}
	for _, ours := range []string{"target_url", "event", "active", "expires_at", "expires_in"} {
		if err := t.resolveAlias(ours); err != nil {
			return nil, err
		}
	}
	t.readFlags()
	t.client.unknown = unknownMembers(root, "", t.used)
	return t, nil
}

// flagSuffix ends the names of members that select one event type each:
// {"push_events": true, "tag_push_events": false}.
const flagSuffix = "_events"

func isFlag(name string, v jsonindex.Value, form bool) bool {
	if !strings.HasSuffix(name, flagSuffix) || len(name) == len(flagSuffix) || len(name) > longestName {
		return false
	}
	_, isWord := statusWord(v)
	return v.Kind() == jsonindex.True || v.Kind() == jsonindex.False || form && isWord
}

// readFlags builds the list of events from flags, if no other member names events. For an existing
// subscription they add and remove events.
func (t *aliasTranslation) readFlags() {
	if len(t.flags) == 0 || t.texts["event"] != nil || t.texts["events"] != nil {
		return
	}
	events := []string{}
	if t.stored != nil {
		events = slices.Clone(t.stored.Events)
	}
	for _, flag := range t.flags {
		event := strings.TrimSuffix(flag.name, flagSuffix)
		events = slices.DeleteFunc(events, func(e string) bool { return e == event })
		if word, _ := statusWord(flag.value); word || flag.value.Kind() == jsonindex.True {
			events = append(events, event)
		}
		t.used[flag.path] = true
	}
	text, _ := encodeJSON(events)
	t.put("events", t.flags[0], text)
}

func (t *aliasTranslation) put(ours string, m aliasedField, text []byte) {
	if ours == "metadata" {
		text = t.client.readMetadata(text)
	}
	t.texts[ours], t.places[ours], t.used[m.path] = text, m.path, true
}

func (t *aliasTranslation) read(object jsonindex.Value, within string) error {
	for name, value := range object.Members() {
		m := aliasedField{name, within + name, value}
		folded := fold(name)
		group := foldedNames[folded]
		if slices.Contains(viewNames, name) { // a member of responses, sent back
			t.used[m.path] = true
		}
		if slices.Contains(ownNames, name) && group == "" {
			t.members = append(t.members, m)
			continue
		}
		if within == "" && slices.Contains(wrappers, folded) && value.Kind() == jsonindex.Object && !isEventObject(folded, value) {
			if err := t.read(value, name+"."); err != nil {
				return err
			}
			continue
		}
		if slices.Contains(wrappers, folded) && group == "" {
			continue // too different to be a misspelling
		}
		if folded == "disabled" {
			m.value = negated(value)
		}
		if group != "" && len(name) <= longestName && (!slices.Contains(ambiguousAliases, folded) || isEventName(value)) {
			t.groups[group] = append(t.groups[group], m)
			t.used[m.path] = !slices.Contains(ambiguousAliases, folded)
			continue
		}
		if isFlag(name, value, t.form) {
			t.flags = append(t.flags, m)
			continue
		}
		if meant := suggest.Closest(name, ownNames); meant != "" {
			return invalidField(m.path, fmt.Sprintf("is not known here; did you mean %q?", meant))
		}
	}
	return nil
}

// isEventObject reports whether {"hook": {…}} names an event and is not a wrapper: it has a name and none
// of the aliases of a target.
func isEventObject(folded string, value jsonindex.Value) bool {
	if folded != "hook" || value.Get("name").Kind() != jsonindex.String {
		return false
	}
	for name := range value.Members() {
		if foldedNames[fold(name)] != "" {
			return false
		}
	}
	return true
}

// isEventName reports whether an ambiguous name's value can be an event: {"type": 3} is not.
func isEventName(value jsonindex.Value) bool {
	return value.Kind() == jsonindex.String || value.Kind() == jsonindex.Array || value.Get("name").Kind() == jsonindex.String
}

// resolveAlias selects the value of a group of aliases. Two that differ contradict each other, unless one
// equals the stored value, sent back unchanged beside the changed one.
func (t *aliasTranslation) resolveAlias(ours string) error {
	group := t.groups[ours]
	if strong := slices.DeleteFunc(slices.Clone(group), func(m aliasedField) bool { return slices.Contains(ambiguousAliases, fold(m.name)) }); len(strong) > 0 {
		group = strong
	}
	if full := slices.DeleteFunc(slices.Clone(group), func(m aliasedField) bool { return isBlank(m.value) }); len(full) > 0 {
		group = full
	}
	if len(group) == 0 {
		return nil
	}
	if t.stored != nil && len(group) > 1 {
		shown := t.canonical(ours, currentValue(ours, t.stored))
		if changed := slices.DeleteFunc(slices.Clone(group), func(m aliasedField) bool { return t.canonical(ours, m.value) == shown }); len(changed) > 0 {
			group = changed
		}
	}
	chosen := group[0]
	for _, m := range group {
		t.used[m.path] = true
	}
	for _, m := range group[1:] {
		if t.canonical(ours, m.value) != t.canonical(ours, chosen.value) {
			return invalidField(chosen.path, "and "+m.path+" name different "+plural[ours]+"; give one of them")
		}
		if chosen.name == ours {
			chosen = m // echo the client's own name
		}
	}
	field, text := ours, t.typed(aliasedField{ours, chosen.path, chosen.value})
	switch ours {
	case "event":
		if text = eventText(chosen.value); chosen.name == "events" || len(text) > 0 && text[0] == '[' {
			field = "events"
		}
		if chosen.name == "event" { // a list under our own name stays in that member
			field = "event"
		}
	case "active":
		if word, ok := statusWord(chosen.value); ok && (t.form || chosen.name != ours) {
			text = fmt.Append(nil, word)
		} else if chosen.value.Kind() == jsonindex.String && fold(chosen.name) == "status" {
			return invalidField(chosen.path, fmt.Sprintf("%.40q is not known: use \"active\", or \"inactive\", \"paused\" or \"disabled\"", chosen.value.Text()))
		}
	}
	if !slices.Contains(ownNames, chosen.name) && ours != "expires_in" {
		t.names[field] = strings.Clone(chosen.name)
	}
	t.put(field, chosen, text)
	return nil
}

// plural returns the noun for a group's values in messages.
var plural = map[string]string{"target_url": "targets", "event": "event types", "active": "states", "expires_at": "times", "expires_in": "times"}

// object returns the translated body.
func (t *aliasTranslation) object() []byte {
	text := []byte{'{'}
	for i, name := range slices.Sorted(maps.Keys(t.texts)) {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(append(text, '"'), name...)
		text = append(append(text, `":`...), t.texts[name]...)
	}
	return append(text, '}')
}
