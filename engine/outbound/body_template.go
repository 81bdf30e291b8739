package outbound

import (
	"bytes"
	"encoding/json"
	"strings"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/jsontemplate"
)

// BodyTemplate is the body of a dialect's deliveries: JSON with placeholders such as "$event.data", in
// the language of jsontemplate. CompileBodyTemplate makes it; it is safe for concurrent use.
type BodyTemplate struct {
	template *jsontemplate.Template[delivery]
}

// delivery is the scope of a template.
type delivery struct {
	ev  *engine.Event
	sub *engine.Subscription
}

const maxTemplateBytes = 16 << 10

// bodyLanguage has the placeholders of a body. Data is inserted byte for byte; what a publisher writes
// can't pass for the dialect's own members.
var bodyLanguage = &jsontemplate.Language[delivery]{
	Members: map[string][]string{
		"event":        {"id", "type", "time", "account", "data"},
		"subscription": {"id", "target_url", "event", "account", "metadata.NAME"},
	},
	Field:  bodyField,
	Spread: "$event.data",
	Data:   func(d delivery) []byte { return d.ev.Data },
}

var bodyFields = map[string]jsontemplate.Field[delivery]{
	"event.id":                textField(func(d delivery) string { return d.ev.PublicID() }),
	"event.type":              textField(func(d delivery) string { return d.ev.Type }),
	"event.time":              func(b []byte, d delivery) []byte { return appendJSONTime(b, d.ev.Time) },
	"event.account":           textField(func(d delivery) string { return d.ev.Account }),
	"event.data":              func(b []byte, d delivery) []byte { return append(b, d.ev.Data...) },
	"subscription.id":         textField(func(d delivery) string { return d.sub.ID.Format(engine.SubscriptionPrefix) }),
	"subscription.target_url": textField(func(d delivery) string { return d.sub.TargetURL }),
	"subscription.event":      textField(func(d delivery) string { return d.sub.PatternOf(d.ev.Type) }), // type or pattern that matched
	"subscription.account":    textField(func(d delivery) string { return d.sub.Account }),
}

func textField(value func(delivery) string) jsontemplate.Field[delivery] {
	return func(b []byte, d delivery) []byte { return jsonindex.AppendString(b, value(d)) }
}

// bodyField returns a field by name, or an entry of the metadata: "subscription.metadata.NAME", or
// "subscription.metadata.client.NAME" for a member that the API did not know, with "." for a member of a
// member.
func bodyField(path ...string) jsontemplate.Field[delivery] {
	if len(path) < 3 || path[0] != "subscription" || path[1] != "metadata" || path[2] == "" {
		return bodyFields[strings.Join(path, ".")]
	}
	entry := strings.Join(path[2:], ".")
	return func(b []byte, d delivery) []byte {
		var v any
		if text, ok := d.sub.Metadata[entry]; ok {
			v = text
		} else if path[2] == "client" {
			v = map[string]any(d.sub.Client)
			for _, name := range path[3:] {
				object, _ := v.(map[string]any)
				v = object[name]
			}
		}
		text, _ := json.Marshal(v) // can't fail: v was parsed from JSON
		return append(b, text...)
	}
}

// CompileBodyTemplate compiles a template. The error is a CodeInvalid whose Field is the path in the
// template.
func CompileBodyTemplate(source []byte) (*BodyTemplate, error) {
	if len(source) > maxTemplateBytes {
		return nil, engine.Invalid("", "the template is %d bytes, %d are allowed", len(source), maxTemplateBytes)
	}
	doc, err := jsonindex.Parse(bytes.Clone(source), jsonindex.Limits{NoDuplicates: true})
	if err != nil {
		return nil, engine.Invalid("", "the template is not JSON: %v", err)
	}
	template, invalid := jsontemplate.Compile(doc.Root(), "", bodyLanguage)
	if invalid != nil {
		return nil, engine.Invalid(invalid.Path, "%s", invalid.Message)
	}
	return &BodyTemplate{template}, nil
}

// render returns the body of ev's delivery to s.
func (t *BodyTemplate) render(ev *engine.Event, s *engine.Subscription) []byte {
	return t.template.Append(make([]byte, 0, len(ev.Data)+512), delivery{ev, s})
}

// SetDialectBodies sets the body templates by dialect name. They apply to a dialect's subscriptions
// without a transform and with the default payload format. The map replaces the previous one at
// once and must not be changed afterwards.
func (s *Sender) SetDialectBodies(bodies map[string]*BodyTemplate) { s.dialectBodies.Store(&bodies) }

// dialectBody returns the template of sub; nil if it has none.
func (s *Sender) dialectBody(sub *engine.Subscription) *BodyTemplate {
	if sub.Dialect == "" || sub.PayloadFormat != engine.FormatStandard {
		return nil
	}
	if bodies := s.dialectBodies.Load(); bodies != nil {
		return (*bodies)[sub.Dialect]
	}
	return nil
}
