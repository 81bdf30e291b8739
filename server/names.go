package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/scripts/jsondoc"
	"switchhook/scripts/near"
)

// clientNames are the names under which programs that were written for other services say
// what a subscription is to be, by our own name for it. They are compared without regard
// to case, "_" and "-". A name in weakNames means something else just as often: it counts
// only where no other name says the same.
var clientNames = map[string][]string{
	"target_url": {"target_url", "hook_url", "url", "webhook_url", "callback_url", "callback", "endpoint", "endpoint_url", "notification_url",
		"destination", "uri", "address", "target", "sink"},
	"event": {"event", "event_type", "event_name", "topic", "trigger", "webhook_event", "events", "event_types", "topics", "triggers", "subscribed_events",
		"type", "types", "scope", "subscription_type", "hook"},
	"active":     {"active", "is_active", "enabled", "status"},
	"expires_at": {"expires_at"},
	"expires_in": {"expires_in"},
}

var weakNames = []string{"type", "types", "scope", "subscriptiontype", "hook"}

// wrappers are the members in which clients put a subscription, one level down.
var wrappers = []string{"subscription", "webhook", "hook", "data"}

// statusWords are what clients write for active.
var statusWords = map[string]bool{
	"active": true, "enabled": true, "on": true, "true": true, "yes": true, "1": true,
	"inactive": false, "paused": false, "disabled": false, "suspended": false, "stopped": false, "off": false, "false": false, "no": false, "0": false,
}

// longestName keeps what is echoed short; a name may have any number of "_".
const longestName = 40

func fold(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
}

// foldedNames is clientNames, turned round.
var foldedNames = func() map[string]string {
	folded := map[string]string{}
	for ours, names := range clientNames {
		for _, name := range names {
			folded[fold(name)] = ours
		}
	}
	return folded
}()

// ownNames are the members of a subscription in our own words.
var ownNames = fieldNames(&subscriptionInput{})

// said is something that a body says of a subscription, under one of the names for it.
type said struct {
	name  string // the client's
	path  string // where it stands: "hook.target"
	value jsondoc.Value
}

// translation is a body in our own words.
type translation struct {
	members []said               // by our names
	groups  map[string][]said    // what has several names, by clientNames' keys
	names   map[string]string    // what the client calls our fields, for Subscription.Names
	places  map[string]string    // where the client said what: our name → its path
	form    bool                 // all values are texts
	texts   map[string][]byte    // our members, as JSON
	stored  *engine.Subscription // what is changed; nil where it is new
}

func newTranslation(form bool, stored *engine.Subscription) *translation {
	return &translation{groups: map[string][]said{}, names: map[string]string{}, places: map[string]string{}, form: form, texts: map[string][]byte{}, stored: stored}
}

// translate reads an object that describes a subscription in whatever words. stored is the
// subscription that is to be changed, nil where there is none.
func translate(root jsondoc.Value, form bool, stored *engine.Subscription) (*translation, error) {
	t := newTranslation(form, stored)
	if err := t.read(root, ""); err != nil {
		return nil, err
	}
	for _, m := range t.members {
		if _, twice := t.texts[m.name]; twice {
			return nil, fieldProblem(m.path, "says what "+t.places[m.name]+" says already; give one of them")
		}
		t.put(m.name, m, t.typed(m))
	}
	for _, ours := range []string{"target_url", "event", "active", "expires_at", "expires_in"} {
		if err := t.choose(ours); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *translation) put(ours string, m said, text []byte) {
	t.texts[ours], t.places[ours] = text, m.path
}

func (t *translation) read(object jsondoc.Value, within string) error {
	for name, value := range object.Members() {
		m := said{name, within + name, value}
		folded := fold(name)
		group := foldedNames[folded]
		if slices.Contains(ownNames, name) && group == "" {
			t.members = append(t.members, m)
			continue
		}
		if within == "" && slices.Contains(wrappers, folded) && value.Kind() == jsondoc.Object && !isEventObject(folded, value) {
			if err := t.read(value, name+"."); err != nil {
				return err
			}
			continue
		}
		if group != "" && len(name) <= longestName && (!slices.Contains(weakNames, folded) || isEventName(value)) {
			t.groups[group] = append(t.groups[group], m)
			continue
		}
		if meant := near.Name(name, ownNames); meant != "" {
			return fieldProblem(m.path, fmt.Sprintf("is not known here; did you mean %q?", meant))
		}
	}
	return nil
}

// isEventObject tells whether {"hook": {…}} names an event and is no wrapper: it has a name
// and none of the words for a target.
func isEventObject(folded string, value jsondoc.Value) bool {
	if folded != "hook" || value.Get("name").Kind() != jsondoc.String {
		return false
	}
	for name := range value.Members() {
		if foldedNames[fold(name)] != "" {
			return false
		}
	}
	return true
}

// isEventName tells whether a weak name's value can be meant as an event: {"type": 3} is
// something else.
func isEventName(value jsondoc.Value) bool {
	return value.Kind() == jsondoc.String || value.Kind() == jsondoc.Array || value.Get("name").Kind() == jsondoc.String
}

// choose settles what a group's names say. Two that differ contradict each other, unless
// one of them is what is stored, sent back as it was shown beside the one that is changed.
func (t *translation) choose(ours string) error {
	group := t.groups[ours]
	if strong := slices.DeleteFunc(slices.Clone(group), func(m said) bool { return slices.Contains(weakNames, fold(m.name)) }); len(strong) > 0 {
		group = strong
	}
	if full := slices.DeleteFunc(slices.Clone(group), func(m said) bool { return nothing(m.value) }); len(full) > 0 {
		group = full
	}
	if len(group) == 0 {
		return nil
	}
	if t.stored != nil && len(group) > 1 {
		shown := t.canonical(ours, shownAs(ours, t.stored))
		if changed := slices.DeleteFunc(slices.Clone(group), func(m said) bool { return t.canonical(ours, m.value) == shown }); len(changed) > 0 {
			group = changed
		}
	}
	chosen := group[0]
	for _, m := range group[1:] {
		if t.canonical(ours, m.value) != t.canonical(ours, chosen.value) {
			return fieldProblem(chosen.path, "and "+m.path+" name different "+plural[ours]+"; give one of them")
		}
		if chosen.name == ours {
			chosen = m // the client's own word is the one to keep
		}
	}
	field, text := ours, t.typed(said{ours, chosen.path, chosen.value})
	switch ours {
	case "event":
		if text = eventText(chosen.value, t.form); chosen.name == "events" || len(text) > 0 && text[0] == '[' {
			field = "events"
		}
		if chosen.name == "event" { // a list under our own name stays there
			field = "event"
		}
	case "active":
		if word, ok := statusWords[strings.ToLower(chosen.value.Text())]; ok && (t.form || chosen.name != ours) {
			text = fmt.Append(nil, word)
		} else if chosen.value.Kind() == jsondoc.String && fold(chosen.name) == "status" {
			return fieldProblem(chosen.path, fmt.Sprintf("%.40q is not known: use \"active\", or \"inactive\", \"paused\" or \"disabled\"", chosen.value.Text()))
		}
	}
	if !slices.Contains(ownNames, chosen.name) && ours != "expires_in" {
		t.names[field] = strings.Clone(chosen.name)
	}
	t.put(field, chosen, text)
	return nil
}

// plural says in a message what a group's names name.
var plural = map[string]string{"target_url": "targets", "event": "event types", "active": "states", "expires_at": "times", "expires_in": "times"}

// nothing tells whether a value leaves open what it names.
func nothing(v jsondoc.Value) bool {
	return v.Kind() == jsondoc.Null || v.Kind() == jsondoc.String && v.Text() == "" || v.Kind() == jsondoc.Array && v.Len() == 0
}

// canonical makes values that mean the same look the same.
func (t *translation) canonical(ours string, v jsondoc.Value) string {
	switch ours {
	case "event":
		text := eventText(v, t.form)
		var one eventNames
		if one.UnmarshalJSON(text) == nil {
			return strings.Join(one, "\n")
		}
	case "active":
		switch v.Kind() {
		case jsondoc.True, jsondoc.False:
			return string(v.Raw())
		case jsondoc.String:
			if word, ok := statusWords[strings.ToLower(v.Text())]; ok {
				return fmt.Sprint(word)
			}
		}
	}
	if v.Kind() == jsondoc.String {
		return v.Text()
	}
	return string(v.Raw())
}

// shownAs is what a stored subscription shows under one of our names.
func shownAs(ours string, sub *engine.Subscription) jsondoc.Value {
	var shown any
	switch ours {
	case "target_url":
		shown = sub.TargetURL
	case "event":
		shown = sub.Events
	case "active":
		shown = sub.Active
	default:
		return jsondoc.Value{}
	}
	text, err := encodeJSON(shown)
	if err != nil {
		return jsondoc.Value{}
	}
	doc, err := jsondoc.Parse(text, jsondoc.Limits{})
	if err != nil {
		return jsondoc.Value{}
	}
	return doc.Root()
}

// eventText gives the events that v names as a JSON string or a list of strings: objects
// with a name become the name, and a form's text is split at its commas. What is neither
// stays as it is, for the decoder to refuse.
func eventText(v jsondoc.Value, form bool) []byte {
	name := func(v jsondoc.Value) []byte {
		if inner := v.Get("name"); inner.Kind() == jsondoc.String {
			return inner.Raw()
		}
		return v.Raw()
	}
	if form && v.Kind() == jsondoc.String && strings.Contains(v.Text(), ",") {
		parts := strings.Split(v.Text(), ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		text, _ := encodeJSON(parts)
		return text
	}
	if v.Kind() != jsondoc.Array {
		return name(v)
	}
	text := []byte{'['}
	for i, e := range v.Elements() {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, name(e)...)
	}
	return append(text, ']')
}

// typed gives a member's JSON text. A form's values are all texts: where something else is
// wanted, they are read as JSON.
func (t *translation) typed(m said) []byte {
	if t.form && (m.name == "policy" || m.name == "batch" || m.name == "debounce") && m.value.Kind() == jsondoc.Object {
		return withNumbers(m.value)
	}
	if !t.form || m.value.Kind() != jsondoc.String {
		return m.value.Raw()
	}
	fields := reflect.TypeFor[subscriptionInput]()
	for i := range fields.NumField() {
		f := fields.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == m.name && f.Type.Kind() != reflect.String && json.Valid([]byte(m.value.Text())) {
			return []byte(m.value.Text())
		}
	}
	return m.value.Raw()
}

// withNumbers is an object of a form's texts, with those that are numbers as such.
func withNumbers(object jsondoc.Value) []byte {
	members := map[string]json.RawMessage{}
	for name, v := range object.Members() {
		members[name] = v.Raw()
		var number float64
		if v.Kind() == jsondoc.String && json.Unmarshal([]byte(v.Text()), &number) == nil {
			members[name] = json.RawMessage(strings.TrimSpace(v.Text()))
		}
	}
	text, err := json.Marshal(members)
	if err != nil { // what was JSON is JSON
		return object.Raw()
	}
	return text
}

// decode reads the body in our own words into in; present holds the members it has. Errors
// are in the client's.
func (t *translation) decode(in *subscriptionInput) (present map[string]jsondoc.Value, err error) {
	doc, err := jsondoc.Parse(t.object(), jsondoc.Limits{MaxDepth: jsondoc.DefaultMaxDepth + 1})
	if err != nil {
		return nil, err
	}
	if present, err = decodeObject(doc.Root(), in); err != nil {
		return nil, t.inItsWords(err)
	}
	return present, nil
}

// object is the body in our own words.
func (t *translation) object() []byte {
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

// remember notes the client's names on a subscription, so that it finds them in answers.
func (t *translation) remember(sub *engine.Subscription) {
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

// inItsWords lets an error name the client's member where it names ours.
func (t *translation) inItsWords(err error) error {
	rename := func(field string) (string, bool) {
		name, rest := field, ""
		if i := strings.IndexAny(field, ".["); i >= 0 {
			name, rest = field[:i], field[i:]
		}
		place := t.places[name]
		if one := t.places["event"]; place == "" && name == "events" && one != "" {
			place, rest = one, "" // it was one name, not a list
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

// echoes gives the members that a subscription's view has besides its own: what the client
// that made it calls ours. A name that means something else in the view is left out.
func echoes(sub *engine.Subscription) []echo {
	var list []echo
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
			if value = sub.Active; fold(name) == "status" {
				value = map[bool]string{true: "active", false: "inactive"}[sub.Active]
			}
		case "expires_at":
			value = expiry(sub)
		default:
			continue
		}
		list = append(list, echo{name, value})
	}
	slices.SortFunc(list, func(a, b echo) int { return cmp.Compare(a.name, b.name) })
	return list
}

type echo struct {
	name  string
	value any
}
