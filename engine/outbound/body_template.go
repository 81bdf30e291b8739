package outbound

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
)

// BodyTemplate is the body of a dialect's deliveries: JSON with placeholders such as "$event.data".
// CompileBodyTemplate makes it; it is safe for concurrent use.
type BodyTemplate struct{ root templateNode }

// templateNode is one value of a template. One of its fields is set.
type templateNode struct {
	literal  []byte           // JSON without placeholders, as written
	field    templateField    // value of a placeholder
	members  []templateMember // of an object
	elements []templateNode   // of an array
	own      []string         // names of members, if "..." is among them
}

type templateMember struct {
	name  string // "..." is replaced by the members of the event's data
	value templateNode
}

// templateField appends the value of a placeholder, as JSON.
type templateField func(b []byte, ev *engine.Event, s *engine.Subscription) []byte

var templateFields = map[string]templateField{
	"$event.id": func(b []byte, ev *engine.Event, _ *engine.Subscription) []byte {
		return jsonindex.AppendString(b, ev.PublicID())
	},
	"$event.type": func(b []byte, ev *engine.Event, _ *engine.Subscription) []byte {
		return jsonindex.AppendString(b, ev.Type)
	},
	"$event.time": func(b []byte, ev *engine.Event, _ *engine.Subscription) []byte { return appendJSONTime(b, ev.Time) },
	"$event.account": func(b []byte, ev *engine.Event, _ *engine.Subscription) []byte {
		return jsonindex.AppendString(b, ev.Account)
	},
	eventData: func(b []byte, ev *engine.Event, _ *engine.Subscription) []byte { return append(b, ev.Data...) },
	"$subscription.id": func(b []byte, _ *engine.Event, s *engine.Subscription) []byte {
		return jsonindex.AppendString(b, s.ID.Format(engine.SubscriptionPrefix))
	},
	"$subscription.target_url": func(b []byte, _ *engine.Event, s *engine.Subscription) []byte {
		return jsonindex.AppendString(b, s.TargetURL)
	},
	"$subscription.event": func(b []byte, ev *engine.Event, s *engine.Subscription) []byte {
		return jsonindex.AppendString(b, s.PatternOf(ev.Type))
	},
	"$subscription.account": func(b []byte, _ *engine.Event, s *engine.Subscription) []byte {
		return jsonindex.AppendString(b, s.Account)
	},
}

const (
	eventData        = "$event.data"
	spread           = "..."
	maxTemplateBytes = 16 << 10
)

// CompileBodyTemplate compiles a template. Any JSON is copied as it is, except that
//
//   - a string "$event.id", "$event.type", "$event.time", "$event.account", "$event.data",
//     "$subscription.id", "$subscription.target_url", "$subscription.event" (the event type
//     or pattern under which the event came) or "$subscription.account" stands for that;
//   - a string "$subscription.metadata.NAME" stands for an entry of the metadata, and
//     "$subscription.metadata.client.NAME" for a member that the API did not know, with
//     "." for a member of a member; null where there is none;
//   - a member "...": "$event.data" spreads the members of the data in its place. Members
//     that the template names itself win over the data's: what a publisher writes can't
//     pass for the dialect's own. Where the data is no object, it is put under "data";
//   - "$$" at the start of a string is one "$".
//
// Data is inserted byte for byte. The error is a CodeInvalid whose Field is the place in the
// template.
func CompileBodyTemplate(source []byte) (*BodyTemplate, error) {
	if len(source) > maxTemplateBytes {
		return nil, engine.Invalid("", "the template is %d bytes, %d are allowed", len(source), maxTemplateBytes)
	}
	doc, err := jsonindex.Parse(bytes.Clone(source), jsonindex.Limits{NoDuplicates: true})
	if err != nil {
		return nil, engine.Invalid("", "the template is not JSON: %v", err)
	}
	root, invalid := compileTemplate(doc.Root(), "")
	if invalid != nil {
		return nil, invalid
	}
	return &BodyTemplate{root}, nil
}

func compileTemplate(v jsonindex.Value, path string) (templateNode, *engine.Error) {
	n := templateNode{}
	fixed := true // no placeholders: it is copied as written
	switch v.Kind() {
	case jsonindex.String:
		return compileText(v, path)
	case jsonindex.Array:
		for _, element := range v.Elements() {
			e, err := compileTemplate(element, path+"[]")
			if err != nil {
				return n, err
			}
			fixed = fixed && bytes.Equal(e.literal, element.Raw())
			n.elements = append(n.elements, e)
		}
	case jsonindex.Object:
		for name, member := range v.Members() {
			at := strings.TrimPrefix(path+"."+name, ".")
			if name == spread {
				if member.Text() != eventData {
					return n, engine.Invalid(at, `must be %q: the members of the data are what can be spread`, eventData)
				}
				if v.Get("data").Exists() {
					return n, engine.Invalid(at, `can't stand beside a member "data": data that is no object is put there`)
				}
				for own := range v.Members() {
					if own != spread {
						n.own = append(n.own, own)
					}
				}
			}
			m, err := compileTemplate(member, at)
			if err != nil {
				return n, err
			}
			fixed = fixed && bytes.Equal(m.literal, member.Raw())
			n.members = append(n.members, templateMember{name, m})
		}
	}
	if fixed {
		return templateNode{literal: v.Raw()}, nil
	}
	return n, nil
}

func compileText(v jsonindex.Value, path string) (templateNode, *engine.Error) {
	text := v.Text()
	if rest, escaped := strings.CutPrefix(text, "$$"); escaped {
		return templateNode{literal: jsonindex.AppendString(nil, "$"+rest)}, nil
	}
	if field := templateFields[text]; field != nil {
		return templateNode{field: field}, nil
	}
	if path, ok := strings.CutPrefix(text, metadataField); ok && path != "" {
		return templateNode{field: metadataValue(path)}, nil
	}
	if strings.HasPrefix(text, "$") {
		var known []string
		for name := range templateFields {
			known = append(known, name)
		}
		slices.Sort(known)
		if meant := suggest.Closest(text, known); meant != "" {
			return templateNode{}, engine.Invalid(path, `%.60q is no placeholder; did you mean %q?`, text, meant)
		}
		return templateNode{}, engine.Invalid(path, `%.60q is no placeholder; there are %s, $subscription.metadata.NAME, and "$$" begins a text with "$"`, text, strings.Join(known, ", "))
	}
	if strings.Contains(text, "$event.") || strings.Contains(text, "$subscription.") {
		return templateNode{}, engine.Invalid(path, "%.60q: a placeholder must be the whole string, nothing is put into the middle of one", text)
	}
	return templateNode{literal: v.Raw()}, nil
}

// metadataField begins the placeholders that stand for metadata.
const metadataField = "$subscription.metadata."

func metadataValue(path string) templateField {
	return func(b []byte, _ *engine.Event, s *engine.Subscription) []byte {
		var v any
		if text, ok := s.Metadata[path]; ok {
			v = text
		} else if inner, ok := strings.CutPrefix(path, "client."); ok {
			v = map[string]any(s.Client)
			for name := range strings.SplitSeq(inner, ".") {
				object, _ := v.(map[string]any)
				v = object[name]
			}
		}
		text, err := json.Marshal(v)
		if err != nil { // can't fail: v was parsed from JSON
			return append(b, "null"...)
		}
		return append(b, text...)
	}
}

// render returns the body of ev's delivery to s.
func (t *BodyTemplate) render(ev *engine.Event, s *engine.Subscription) []byte {
	return t.root.append(make([]byte, 0, len(ev.Data)+512), ev, s)
}

func (n *templateNode) append(b []byte, ev *engine.Event, s *engine.Subscription) []byte {
	switch {
	case n.literal != nil:
		return append(b, n.literal...)
	case n.field != nil:
		return n.field(b, ev, s)
	case n.elements != nil:
		for i := range n.elements {
			b = n.elements[i].append(append(b, "[,"[min(i, 1)]), ev, s)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	empty := len(b)
	for i := range n.members {
		m := &n.members[i]
		before := len(b)
		if before > empty {
			b = append(b, ',')
		}
		if m.name != spread {
			b = m.value.append(append(jsonindex.AppendString(b, m.name), ':'), ev, s)
			continue
		}
		begin := len(b)
		if b = appendSpread(b, ev.Data, n.own); len(b) == begin {
			b = b[:before] // no members, so no comma
		}
	}
	return append(b, '}')
}

// appendSpread appends the members of data, without those named in own; data that is no object
// becomes the member "data".
func appendSpread(b, data []byte, own []string) []byte {
	doc, err := jsonindex.Parse(data, jsonindex.Limits{})
	if err != nil || doc.Root().Kind() != jsonindex.Object {
		return append(append(b, `"data":`...), data...)
	}
	clash := false
	for name := range doc.Root().Members() {
		clash = clash || slices.Contains(own, name)
	}
	if !clash {
		raw := doc.Root().Raw()
		return append(b, bytes.TrimSpace(raw[1:len(raw)-1])...)
	}
	begin := len(b)
	for name, value := range doc.Root().Members() {
		if slices.Contains(own, name) {
			continue
		}
		if len(b) > begin {
			b = append(b, ',')
		}
		b = append(append(jsonindex.AppendString(b, name), ':'), value.Raw()...)
	}
	return b
}

// SetDialectBodies sets the body templates by dialect name. They apply to a dialect's subscriptions
// without a transform and with the default payload format. The map replaces the previous one at
// once and must not be changed afterwards.
func (s *Sender) SetDialectBodies(bodies map[string]*BodyTemplate) { s.dialectBodies.Store(&bodies) }

// dialectBody returns the template of s; nil if it has none.
func (sender *Sender) dialectBody(s *engine.Subscription) *BodyTemplate {
	if s.Dialect == "" || s.PayloadFormat != engine.FormatStandard {
		return nil
	}
	if bodies := sender.dialectBodies.Load(); bodies != nil {
		return (*bodies)[s.Dialect]
	}
	return nil
}
