package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// aliasTable lists the names that clients of other services use for members of a subscription. Names
// are compared without case, "_" and "-". An ambiguous name often has another meaning: it counts only
// if no other name sets the member, and its value can be an event. The noun is for messages.
var aliasTable = []struct{ member, noun, names, ambiguous string }{
	{"target_url", "targets", `target_url hook_url url webhook_url callback_url callback endpoint endpoint_url notification_url
		destination uri address target sink`, ""},
	{"events", "event types", `event event_type event_name event_key topic trigger webhook_event
		events event_types event_names topics triggers subscribed_events enabled_events filter_types`, "type types scope subscription_type hook"},
	{"active", "states", "active is_active enabled status disabled", ""}, // disabled is inverted
	{"expires_at", "times", "expires_at", ""},
	{"expires_in", "times", "expires_in", ""},
}

// alias is the meaning of a name in aliasTable.
type alias struct {
	member, noun string
	ambiguous    bool
}

var aliases = func() map[string]alias {
	table := map[string]alias{}
	for _, row := range aliasTable {
		for _, name := range strings.Fields(row.names) {
			table[fold(name)] = alias{row.member, row.noun, false}
		}
		for _, name := range strings.Fields(row.ambiguous) {
			table[fold(name)] = alias{row.member, row.noun, true}
		}
	}
	return table
}()

// wrappers are the members in which clients nest a subscription.
var wrappers = []string{"subscription", "webhook", "hook", "data", "config"}

// statusWords maps the words that clients use for active.
var statusWords = map[string]bool{
	"active": true, "enabled": true, "on": true, "true": true, "yes": true, "1": true,
	"inactive": false, "paused": false, "disabled": false, "suspended": false, "stopped": false, "off": false, "false": false, "no": false, "0": false,
}

const (
	longestName    = 40        // of the echoed names; a name may have any number of "_"
	flagSuffix     = "_events" // of members that select one event type each: {"push_events": true}
	maxSuggestions = 100       // unknown members that are compared with known names; the engine stores fewer
)

func fold(name string) string { return separators.Replace(strings.ToLower(name)) }

var separators = strings.NewReplacer("_", "", "-", "")

// ownNames are the API's members of a subscription.
var ownNames = wire.Names(&api.SubscriptionRequest{})

// aliasedField is a field of a request under the client's name.
type aliasedField struct {
	name  string
	path  string // in the body: "hook.target"
	value jsonindex.Value
	text  []byte // the JSON of the API's member
}

// aliasTranslation is a request body translated to the API's members.
type aliasTranslation struct {
	form   bool                       // all values are texts
	stored *engine.Subscription       // the subscription being changed; nil if it is new
	texts  map[string]json.RawMessage // the API's members, as JSON
	places map[string]string          // the path of each in the body
	names  map[string]string          // the client's names, for Subscription.Names
	used   map[string]bool            // paths that were translated
	client clientChange               // members that were not translated
	single bool                       // the body names one event, not a list

	unknown int // members so far that are neither the API's nor aliases

	groups map[string][]aliasedField // members of aliasTable
	flags  []aliasedField
}

func newTranslation(form bool, stored *engine.Subscription) *aliasTranslation {
	return &aliasTranslation{
		form: form, stored: stored, texts: map[string]json.RawMessage{}, places: map[string]string{}, names: map[string]string{},
		used: map[string]bool{}, groups: map[string][]aliasedField{},
	}
}

// translate translates an object that describes a subscription. stored is the subscription being changed,
// or nil.
func translate(root jsonindex.Value, form bool, stored *engine.Subscription) (*aliasTranslation, error) {
	t := newTranslation(form, stored)
	if err := t.read(root, ""); err != nil {
		return nil, err
	}
	for _, row := range aliasTable {
		if err := t.resolve(row.member, row.noun); err != nil {
			return nil, err
		}
	}
	t.readFlags()
	t.client.unknown = unknownMembers(root, t.used)
	return t, nil
}

// read sorts the members of the body, or of a wrapper in it, by what they mean.
func (t *aliasTranslation) read(object jsonindex.Value, within string) error {
	for name, value := range object.Members() {
		f := aliasedField{name: name, path: within + name, value: value}
		folded := fold(name)
		meaning, isAlias := aliases[folded]
		if slices.Contains(viewNames, name) { // a member of responses, sent back
			t.used[f.path] = true
		}
		switch {
		case slices.Contains(ownNames, name) && !isAlias:
			if t.texts[name] != nil {
				return invalidField(f.path, "says what "+t.places[name]+" says already; give one of them")
			}
			t.put(name, f.path, t.typed(name, value))
		case within == "" && slices.Contains(wrappers, folded) && value.Kind() == jsonindex.Object && !isEventObject(folded, value):
			if err := t.read(value, name+"."); err != nil {
				return err
			}
		case isAlias && len(name) <= longestName && (!meaning.ambiguous || isEventName(value)):
			f.text = t.convert(meaning.member, f)
			t.groups[meaning.member] = append(t.groups[meaning.member], f)
			if !meaning.ambiguous {
				t.used[f.path] = true
			}
		case slices.Contains(wrappers, folded): // too different to be a misspelling
		case isFlag(name, value, t.form):
			t.flags = append(t.flags, f)
		default:
			if t.unknown++; t.unknown > maxSuggestions {
				continue
			}
			if meant := suggest.Closest(name, ownNames); meant != "" {
				return unknownField(f.path, fmt.Sprintf("is not known here; did you mean %q?", meant))
			}
		}
	}
	return nil
}

// isEventObject reports whether {"hook": {…}} names an event and is not a wrapper: it has a name and none
// of the aliases.
func isEventObject(folded string, value jsonindex.Value) bool {
	if folded != "hook" || value.Get("name").Kind() != jsonindex.String {
		return false
	}
	for name := range value.Members() {
		if _, ok := aliases[fold(name)]; ok {
			return false
		}
	}
	return true
}

// isEventName reports whether an ambiguous name's value can be an event: {"type": 3} is not.
func isEventName(v jsonindex.Value) bool {
	return v.Kind() == jsonindex.String || v.Kind() == jsonindex.Array || v.Get("name").Kind() == jsonindex.String
}

func isFlag(name string, v jsonindex.Value, form bool) bool {
	_, isWord := statusWord(v)
	return strings.HasSuffix(name, flagSuffix) && len(name) > len(flagSuffix) && len(name) <= longestName && isWord && (form || isBool(v))
}

func (t *aliasTranslation) put(member, path string, text []byte) {
	if member == "metadata" {
		text = t.client.readMetadata(text)
	}
	t.texts[member], t.places[member], t.used[path] = text, path, true
}

// resolve selects the value of a member that has aliases. Two that differ contradict each other, unless
// one equals the stored value, sent back unchanged beside the changed one.
func (t *aliasTranslation) resolve(member, noun string) error {
	group := t.groups[member]
	stored := currentValue(member, t.stored)
	for _, without := range []func(aliasedField) bool{
		func(f aliasedField) bool { return aliases[fold(f.name)].ambiguous },
		func(f aliasedField) bool { return string(f.text) == "null" },
		func(f aliasedField) bool { return len(group) > 1 && bytes.Equal(f.text, stored) },
	} {
		if rest := slices.DeleteFunc(slices.Clone(group), without); len(rest) > 0 {
			group = rest
		}
	}
	if len(group) == 0 {
		return nil
	}
	chosen := group[0]
	for _, f := range group {
		t.used[f.path] = true
		if !bytes.Equal(f.text, chosen.text) {
			return invalidField(chosen.path, "and "+f.path+" name different "+noun+"; give one of them")
		}
		if slices.Contains(ownNames, chosen.name) {
			chosen = f // echo the client's own name
		}
	}
	if fold(chosen.name) == "status" && chosen.text[0] == '"' {
		return unknownField(chosen.path, fmt.Sprintf("%.40q is not known: use \"active\", or \"inactive\", \"paused\" or \"disabled\"", chosen.value.Text()))
	}
	t.put(member, chosen.path, chosen.text)
	if member == "events" && isSingle(chosen.value) {
		member, t.single = "event", true // echoed as a text
	}
	if !slices.Contains(ownNames, chosen.name) && member != "expires_in" {
		t.names[member] = strings.Clone(chosen.name)
	}
	return nil
}

// isSingle reports whether a value names one event, not a list.
func isSingle(v jsonindex.Value) bool {
	return v.Kind() != jsonindex.Array && !strings.Contains(v.Text(), ",")
}

// readFlags builds the list of events from flags, if no other member names events. For an existing
// subscription they add and remove events.
func (t *aliasTranslation) readFlags() {
	if len(t.flags) == 0 || t.texts["events"] != nil {
		return
	}
	events := []string{}
	if t.stored != nil {
		events = slices.Clone(t.stored.Events)
	}
	flagged := map[string]bool{} // whether the event is wanted
	for _, flag := range t.flags {
		flagged[strings.TrimSuffix(flag.name, flagSuffix)], _ = statusWord(flag.value)
		t.used[flag.path] = true
	}
	events = slices.DeleteFunc(events, func(e string) bool { _, is := flagged[e]; return is })
	for _, flag := range t.flags {
		if event := strings.TrimSuffix(flag.name, flagSuffix); flagged[event] {
			events = append(events, event)
		}
	}
	text, _ := encodeJSON(events)
	t.put("events", t.flags[0].path, text)
}

// convert returns the JSON text of a member for the value of one of its aliases. A value that does not
// fit stays as it is: the decoder refuses it.
func (t *aliasTranslation) convert(member string, f aliasedField) []byte {
	switch v := f.value; {
	case v.Kind() == jsonindex.Null, v.Kind() == jsonindex.String && v.Text() == "", v.Kind() == jsonindex.Array && v.Len() == 0 && member == "events":
		return []byte("null")
	case member == "events":
		return eventText(v)
	case member == "active" && (t.form || f.name != member || isBool(v)):
		if on, ok := statusWord(v); ok {
			return fmt.Append(nil, on != (fold(f.name) == "disabled"))
		}
	}
	return t.typed(member, f.value)
}

func isBool(v jsonindex.Value) bool { return v.Kind() == jsonindex.True || v.Kind() == jsonindex.False }

// statusWord parses a boolean, a word or a number as active.
func statusWord(v jsonindex.Value) (active, ok bool) {
	active, ok = statusWords[strings.ToLower(cmp.Or(v.Text(), string(v.Raw())))]
	return active, ok
}

// eventText returns the events in v as a list: objects with a name become the name, and a text is split at
// its commas, since no event type contains one.
func eventText(v jsonindex.Value) []byte {
	var list []any
	add := func(v jsonindex.Value) {
		if inner := v.Get("name"); inner.Kind() == jsonindex.String {
			v = inner
		}
		list = append(list, json.RawMessage(v.Raw()))
	}
	switch {
	case v.Kind() == jsonindex.Array:
		for _, e := range v.Elements() {
			add(e)
		}
	case v.Kind() == jsonindex.String:
		for part := range strings.SplitSeq(v.Text(), ",") {
			list = append(list, strings.TrimSpace(part))
		}
	case v.Get("name").Kind() == jsonindex.String:
		add(v)
	default:
		return v.Raw()
	}
	text, _ := encodeJSON(list)
	return bytes.TrimSpace(text)
}

// typed returns a member's JSON text. A form's values are all texts; those of members of another type are
// parsed as JSON.
func (t *aliasTranslation) typed(member string, v jsonindex.Value) []byte {
	if t.form && v.Kind() == jsonindex.Object && (member == "policy" || member == "batch" || member == "debounce") {
		numbers := map[string]json.RawMessage{}
		for name, inner := range v.Members() {
			numbers[name] = t.typed("", inner)
		}
		text, _ := json.Marshal(numbers)
		return text
	}
	field, known := reflect.TypeFor[api.SubscriptionRequest]().FieldByNameFunc(func(name string) bool { return fold(name) == fold(member) })
	isText := known && (field.Type == reflect.TypeFor[api.Optional[string]]() || field.Type.Kind() == reflect.String)
	if t.form && !isText && v.Kind() == jsonindex.String && json.Valid([]byte(v.Text())) {
		return []byte(strings.TrimSpace(v.Text()))
	}
	return v.Raw()
}

// currentValue returns the JSON text of a member of a stored subscription.
func currentValue(member string, sub *engine.Subscription) []byte {
	if sub == nil {
		return nil
	}
	text, _ := encodeJSON(map[string]any{"target_url": sub.TargetURL, "events": sub.Events, "active": sub.Active}[member])
	return bytes.TrimSpace(text)
}

// saveAliases stores the client's field names on a subscription, to echo them in responses.
func (t *aliasTranslation) saveAliases(sub *engine.Subscription) {
	for ours, name := range t.names {
		if sub.Names == nil {
			sub.Names = map[string]string{}
		}
		if ours == "event" || ours == "events" {
			delete(sub.Names, "event")
			delete(sub.Names, "events")
		}
		sub.Names[ours] = name
	}
}

// withClientFieldNames rewrites the fields of an error to the client's names for them.
func (t *aliasTranslation) withClientFieldNames(err error) error {
	rename := func(field string) string {
		member, rest := field, ""
		if i := strings.IndexAny(field, ".["); i >= 0 {
			member, rest = field[:i], field[i:]
		}
		place := t.places[member]
		if member == "event" && place == "" {
			place = t.places["events"]
		}
		if member == "events" && t.single {
			rest = ""
		}
		return cmp.Or(place, member) + rest
	}
	if e, ok := err.(*api.Error); ok && e.Field != "" {
		theirs := *e
		theirs.Field = rename(e.Field)
		theirs.Detail = theirs.Field + strings.TrimPrefix(e.Detail, e.Field)
		return &theirs
	}
	return engine.RenameFields(err, rename)
}

// aliasField is a member of a subscription under the client's name.
type aliasField struct {
	name  string
	value any
}

// aliasFields returns the members of a subscription's view in the terms of the client that created it. A
// name that has another meaning in the view is left out.
func aliasFields(sub *engine.Subscription) (list []aliasField) {
	for ours, name := range sub.Names {
		var value any
		switch {
		case slices.Contains(viewNames, name):
			continue
		case ours == "target_url":
			value = sub.TargetURL
		case ours == "event" && len(sub.Events) == 1:
			value = sub.Events[0]
		case ours == "event" || ours == "events":
			value = sub.Events
		case ours == "active" && fold(name) == "status":
			value = map[bool]string{true: "active", false: "inactive"}[sub.Active]
		case ours == "active":
			value = sub.Active != (fold(name) == "disabled")
		case ours == "expires_at":
			value = timeOrNull(sub.ExpiresAt)
		default:
			continue
		}
		list = append(list, aliasField{name, value})
	}
	slices.SortFunc(list, func(a, b aliasField) int { return cmp.Compare(a.name, b.name) })
	return list
}
