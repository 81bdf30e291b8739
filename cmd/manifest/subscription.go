package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/signature"
	"switchhook/engine/target"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// Subscription is the desired state of a subscription: a request that has every member that apply
// manages, so that those a file leaves out are reset. Active and Verify are unchanged if they are
// left out.
type Subscription struct {
	api.SubscriptionRequest // Account may be empty: that of the key
	Place                   Position
	Name                    string            // its identity, in metadata under NameKey
	templates               map[string]string // texts with variables as they are written, by member
}

// unmanaged are the members of a request that files can't give.
var unmanaged = []string{"secret", "secret_type", "expires_at", "expires_in"}

// subscriptionMembers are the members of a subscription in a file.
var subscriptionMembers = append([]string{"name"}, slices.DeleteFunc(wire.Names(&api.SubscriptionRequest{}), func(name string) bool {
	return slices.Contains(unmanaged, name)
})...)

func (d *decoder) subscription(f field) *Subscription {
	if !d.object(f, subscriptionMembers...) {
		return nil
	}
	s := &Subscription{Place: d.place(f), templates: map[string]string{}, SubscriptionRequest: api.SubscriptionRequest{
		Filter: api.Null[string](), FilterScript: api.Null[api.ScriptRef](), Transform: api.Null[string](), TransformScript: api.Null[api.ScriptRef](),
		Signatures: api.Null[[]string](), VisibleHeaders: api.Null[[]string](), PayloadFormat: api.Some(string(engine.FormatStandard)),
		Numbered: api.Some(false), Description: api.Some(""),
	}}
	before := len(d.problems)
	d.reportAt(f, wire.Decode(f.Value, &s.SubscriptionRequest, members(f)...).Err())
	decoded := len(d.problems) == before
	s.Account = cmp.Or(s.Account, d.account)
	s.Name = d.needed(f, "name", "apply knows the subscription again by it")
	d.properName(f, s.Name)
	d.unique(f, "subscription", s.Account, s.Name)
	d.events(f, s)
	d.target(d.get(f, "target_url"), s)
	d.use(f, "filter", &s.Filter, &s.FilterScript)
	d.use(f, "transform", &s.Transform, &s.TransformScript)
	d.headers(d.get(f, "headers"), s)
	for name := range s.Metadata.Or(nil) {
		if strings.HasPrefix(name, OwnKeys) {
			d.wrong(d.get(d.get(f, "metadata"), name), "can't be given: names that begin with %q belong to apply", OwnKeys)
		}
	}
	settings := s.settings()
	s.Policy, s.Batch, s.Debounce = api.Some(wire.FromPolicy(&settings.Policy)), wire.FromBatch(settings.Batch), wire.FromDebounce(settings.Debounce)
	if decoded { // otherwise a member that can't be read would be reported as missing
		d.reportAt(f, catalog.ValidateDeliverySettings(settings))
	}
	return s
}

func members(f field) (names []string) {
	for name := range f.Members() {
		names = append(names, strings.Clone(name))
	}
	return names
}

func (d *decoder) events(f field, s *Subscription) {
	one, several := d.get(f, "event"), d.get(f, "events")
	if given(one) && given(several) {
		d.wrong(one, "and events are both given: give one of them")
	}
	names, at := s.Event.Or(s.Events.Or(nil)), several
	if given(one) {
		at = one
	}
	for i, name := range names {
		e := at
		if at.Kind() == jsonindex.Array {
			e = d.elements(at)[i]
		}
		if !engine.ValidPattern(name) {
			d.wrong(e, `%q is neither an event type ("order.created") nor a pattern ("order.*" or "*")`, name)
		} else if slices.Contains(names[:i], name) {
			d.wrong(e, "%q is named twice", name)
		}
	}
	if len(names) == 0 && (!given(at) || at.Kind() == jsonindex.Array && at.Len() == 0) {
		d.wrong(one, `is missing: name an event type ("order.created"), a pattern ("order.*") or "*"`)
	}
	s.Event, s.Events = api.Optional[api.EventNames]{}, api.Some(names)
}

// expand replaces the variables in a text. member is its name in templates.
func (s *Subscription) expand(d *decoder, at field, member string) string {
	v := d.value(at)
	if v.Template != "" {
		s.templates[member] = v.Template
	}
	return v.Text
}

func (d *decoder) target(at field, s *Subscription) {
	switch {
	case !given(at) || at.Kind() == jsonindex.String && strings.TrimSpace(at.Text()) == "":
		d.wrong(at, "is missing: the address that is sent to")
	case at.Kind() == jsonindex.String:
		url := s.expand(d, at, "target_url")
		s.TargetURL = api.Some(url)
		var refused *target.RefusedError
		if _, err := target.Parse(url); url != "" && errors.As(err, &refused) {
			d.wrong(at, "is not an address such as https://example.com/hook: %s", refused.Reason)
		}
	}
}

// use brings a filter or transform to one form: an inline source or a script by its name.
func (d *decoder) use(f field, kind string, source *api.Optional[string], script *api.Optional[api.ScriptRef]) {
	if given(d.get(f, kind)) && given(d.get(f, kind+"_script")) {
		d.wrong(d.get(f, kind+"_script"), "and %s are both given: give one of them", kind)
	}
	if text := source.Or(""); strings.TrimSpace(text) == "" {
		*source = api.Null[string]()
	} else if kind == "filter" {
		*source = api.Some(strings.TrimSpace(text))
	}
	if ref, ok := script.Get(); ok {
		*script = api.Some(api.ScriptRef{Name: cmp.Or(ref.Name, ref.ID), Version: ref.Version})
	}
}

func (d *decoder) headers(f field, s *Subscription) {
	headers := s.Headers.Or(nil)
	seen := map[string]bool{}
	for _, name := range members(f) {
		at := d.get(f, name)
		if folded := strings.ToLower(name); seen[folded] {
			d.wrong(at, "is given twice: names of headers don't tell cases apart")
		} else {
			seen[folded] = true
		}
		if at.Kind() != jsonindex.String || headers == nil {
			continue
		}
		text := s.expand(d, at, "headers."+name)
		if headers[name] = &text; text == hidden {
			d.wrong(at, "is %q, which is how the router shows a value that it hides: give the value by ${NAME}", hidden)
		}
	}
}

// settings returns the delivery settings of s as a subscription of the engine.
func (s *Subscription) settings() *engine.Subscription {
	settings := &engine.Subscription{
		Policy: wire.ToPolicy(s.Policy.Or(api.Policy{})), Batch: wire.ToBatch(s.Batch), Debounce: wire.ToDebounce(s.Debounce),
		PayloadFormat: engine.PayloadFormat(s.PayloadFormat.Or("")), Numbered: s.Numbered.Or(false), VisibleHeaders: s.VisibleHeaders.Or(nil),
		Verification: engine.Verification{Mode: engine.VerificationMode(s.Verify.Or(""))}, Headers: map[string]string{},
	}
	settings.Policy.OrderingKey, settings.Debounce.Key = strings.TrimSpace(settings.Policy.OrderingKey), strings.TrimSpace(settings.Debounce.Key)
	for _, name := range s.Signatures.Or(nil) {
		settings.Signatures = append(settings.Signatures, signature.Scheme(name))
	}
	for name, value := range s.Headers.Or(nil) {
		if value != nil {
			settings.Headers[name] = *value
		}
	}
	return settings
}

// HiddenHeaders returns the headers whose values the router does not show.
func (s *Subscription) HiddenHeaders() map[string]string {
	settings := s.settings()
	maps.DeleteFunc(settings.Headers, func(name, _ string) bool { return !settings.HidesHeader(name) })
	return settings.Headers
}

// subscriptionTexts returns the texts of the current and the desired state of a subscription: the
// members that apply manages, as the API has them. Values that the router hides or that come from
// the environment are not in them.
func subscriptionTexts(was *api.Subscription, will *Subscription) (string, string) {
	old, now := document(was), document(&will.SubscriptionRequest)
	for _, name := range []string{"filter_script", "transform_script"} {
		old[name], now[name] = refText(old[name]), refText(now[name])
	}
	old["verify"] = ""
	if was.Verification != nil {
		old["verify"] = was.Verification.Mode
	}
	if mode, _ := old["verify"].(string); engine.VerificationMode(mode).Covers(engine.VerificationMode(will.Verify.Or(""))) {
		now["verify"] = mode
	}
	if now["active"] == nil || was.Pending() {
		now["active"] = old["active"]
	}
	old["active"], now["active"] = fmt.Sprint(old["active"]), fmt.Sprint(now["active"])
	old["target_url"], now["target_url"] = masked(was.TargetURL, will.TargetURL.Or(""), will.templates["target_url"])
	old["headers"], now["headers"] = headerTexts(was, will)
	for _, doc := range []map[string]any{old, now} {
		for _, name := range []string{"signatures", "visible_headers"} {
			list, _ := doc[name].([]any)
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		if list, _ := doc["signatures"].([]any); len(list) == 0 {
			doc["signatures"] = []any{string(signature.Standard)}
		}
		if entries, ok := doc["metadata"].(map[string]any); ok {
			maps.DeleteFunc(entries, func(name string, v any) bool {
				_, isText := v.(string)
				return strings.HasPrefix(name, OwnKeys) || !isText
			})
		}
		maps.DeleteFunc(doc, func(name string, _ any) bool {
			return name == "account" || name == "event" || !slices.Contains(subscriptionMembers, name)
		})
	}
	return memberTexts(old), memberTexts(now)
}

// document returns a value's JSON.
func document(v any) (members map[string]any) {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &members)
	}
	if err != nil {
		panic(err) // a type of package api has members that JSON can't have
	}
	return members
}

// masked returns how a current and a desired text are shown; template is the desired text with its
// variables.
func masked(was, will, template string) (string, string) {
	switch {
	case template == "":
		return was, will
	case was == will:
		return template, template
	case was == "":
		return "", template
	}
	return "[another value]", template
}

func headerTexts(was *api.Subscription, will *Subscription) (old, now map[string]any) {
	old, now = map[string]any{}, map[string]any{}
	for name, value := range was.Headers {
		old[name] = value
	}
	secret := will.HiddenHeaders()
	same := len(secret) == 0 || SameFingerprint(secret, was.Text(HeadersKey))
	for name, value := range will.settings().Headers {
		_, has := was.Headers[name]
		if _, hides := secret[name]; !hides && was.Headers[name] != hidden {
			old[name], now[name] = masked(was.Headers[name], value, will.templates["headers."+name])
			continue
		}
		if now[name] = hidden; has {
			if old[name] = hidden; !same {
				now[name] = "[hidden; not known to be the same]"
			}
		}
	}
	return old, now
}

// refText returns how a reference to a script is shown.
func refText(ref any) string {
	members, _ := ref.(map[string]any)
	if members == nil {
		return ""
	}
	if members["version"] == nil {
		return fmt.Sprint(members["name"])
	}
	return fmt.Sprintf("%s, version %v", members["name"], members["version"])
}

// reportAt reports the fields of an error at their positions, relative to f.
func (d *decoder) reportAt(f field, err error) {
	if wrong, ok := errors.AsType[*engine.Error](err); ok {
		for _, w := range wrong.Fields() {
			d.wrong(d.find(f, w.Field), "%s", w.Message)
		}
	} else if err != nil {
		d.wrong(f, "%v", err)
	}
}

var pathPart = regexp.MustCompile(`[^.\[\]]+`)

// find returns the field at a path such as "policy.retries[2]", relative to f.
func (d *decoder) find(f field, path string) field {
	for _, part := range pathPart.FindAllString(path, -1) {
		if i, err := strconv.Atoi(part); err == nil && f.Kind() == jsonindex.Array && i < f.Len() {
			f = d.elements(f)[i]
		} else {
			f = d.get(f, part)
		}
	}
	return f
}
