package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/engine/signature"
	"switchhook/scripts/scripttest"
	"switchhook/scripts/suggest"
)

// Each text lists the settings that apply manages, one a line: two states are equal if
// their texts are, and otherwise the diff of the texts is shown.

func (t *EventType) text() string {
	var b strings.Builder
	line(&b, "description", t.Description)
	if given := canonical(t.Schema); given != "null" {
		line(&b, "schema", given)
	}
	for _, sample := range t.Samples {
		line(&b, "sample", canonical(sample))
	}
	line(&b, "verify", string(t.Verify))
	return b.String()
}

func (s *Script) text() string {
	var b strings.Builder
	line(&b, "description", s.Description)
	line(&b, "source", s.Source)
	line(&b, "tests", casesText(s.Cases))
	return b.String()
}

// subscriptionTexts returns the texts of the current and the desired state of a
// subscription. They omit values that the router hides or that come from the environment.
func subscriptionTexts(was *LiveSubscription, will *Subscription) (string, string) {
	var old, now strings.Builder
	both := func(name, a, b string) {
		line(&old, name, a)
		line(&now, name, b)
	}
	value := func(name string, a string, has bool, v Value, wants bool) {
		shownOld, shownNow := a, v.Text
		if v.Template != "" {
			if shownNow = v.Template; a == v.Text {
				shownOld = v.Template
			} else if has {
				shownOld = "[another value]"
			}
		}
		if has {
			line(&old, name, shownOld)
		}
		if wants {
			line(&now, name, shownNow)
		}
	}
	both("events", strings.Join(was.Events, ", "), strings.Join(will.Events, ", "))
	value("target_url", was.TargetURL.Text, true, will.TargetURL, true)
	if will.Active != nil && !was.PendingVerification {
		both("active", fmt.Sprint(*was.Active), fmt.Sprint(*will.Active))
	}
	both("filter", was.Filter, will.Filter)
	both("filter_script", was.FilterScript.text(), will.FilterScript.text())
	both("transform", was.Transform, will.Transform)
	both("transform_script", was.TransformScript.text(), will.TransformScript.text())
	names := maps.Clone(was.Headers)
	maps.Copy(names, will.Headers)
	secret := will.HiddenHeaders()
	same := len(secret) == 0 || SameFingerprint(secret, was.Fingerprint)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, has := was.Headers[name]
		v, wants := will.Headers[name]
		if _, hides := secret[name]; !hides && a.Text != hidden {
			value("header "+name, a.Text, has, v, wants)
			continue
		}
		if has {
			line(&old, "header "+name, hidden)
		}
		switch {
		case wants && !same && has:
			line(&now, "header "+name, "[hidden; not known to be the same]")
		case wants:
			line(&now, "header "+name, hidden)
		}
	}
	both("payload_format", was.PayloadFormat, will.PayloadFormat)
	for _, term := range settingTexts {
		both(term.name, term.text(&was.Subscription), term.text(will))
	}
	if !was.Verify.Covers(will.Verify) {
		both("verify", string(was.Verify), string(will.Verify))
	}
	both("description", was.Description, will.Description)
	for _, m := range []struct {
		b *strings.Builder
		s *Subscription
	}{{&old, &was.Subscription}, {&now, will}} {
		for _, name := range slices.Sorted(maps.Keys(m.s.Metadata)) {
			line(m.b, "metadata "+name, m.s.Metadata[name])
		}
	}
	return old.String(), now.String()
}

// settingTexts are the delivery settings, each with a text that does not depend on how the file
// writes it, and is empty for the router's default.
var settingTexts = []struct {
	name string
	text func(*Subscription) string
}{
	{"policy.retries", func(s *Subscription) string {
		waits := make([]string, len(s.Policy.Retries))
		for i, wait := range s.Policy.Retries {
			waits[i] = wait.String()
		}
		return strings.Join(waits, ", ")
	}},
	{"policy.timeout", func(s *Subscription) string { return unlessZero(s.Policy.Timeout) }},
	{"policy.in_flight", func(s *Subscription) string { return unlessZero(s.Policy.InFlight) }},
	{"policy.rate", func(s *Subscription) string {
		if s.Policy.Rate == (engine.Rate{}) {
			return ""
		}
		return fmt.Sprintf("%d in %s", s.Policy.Rate.Count, s.Policy.Rate.Per)
	}},
	{"policy.ordering", func(s *Subscription) string { return string(s.Policy.Ordering) }},
	{"policy.ordering_key", func(s *Subscription) string { return strings.TrimSpace(s.Policy.OrderingKey) }},
	{"policy.give_up_after", func(s *Subscription) string { return unlessZero(s.Policy.GiveUpAfter) }},
	{"batch.size", func(s *Subscription) string { return unlessZero(s.Batch.Size) }},
	{"batch.wait", func(s *Subscription) string { return unlessZero(s.Batch.Wait) }},
	{"debounce.key", func(s *Subscription) string { return strings.TrimSpace(s.Debounce.Key) }},
	{"debounce.within", func(s *Subscription) string { return unlessZero(s.Debounce.Within) }},
	{"visible_headers", func(s *Subscription) string {
		return strings.Join(slices.Sorted(slices.Values(s.VisibleHeaders)), ", ")
	}},
	{"signatures", func(s *Subscription) string {
		var names []string
		for _, scheme := range s.Signatures {
			names = append(names, string(scheme))
		}
		if slices.Sort(names); slices.Equal(names, []string{string(signature.Standard)}) {
			return ""
		}
		return strings.Join(names, ", ")
	}},
	{"numbered", func(s *Subscription) string { return unlessZero(s.Numbered) }},
}

// unlessZero is empty for the zero value.
func unlessZero[T comparable](v T) string {
	var zero T
	if v == zero {
		return ""
	}
	return fmt.Sprint(v)
}

// HiddenHeaders returns the headers whose values the router does not show.
func (s *Subscription) HiddenHeaders() map[string]string {
	secret, terms := map[string]string{}, s.DeliverySettings()
	for name, v := range s.Headers {
		if terms.HidesHeader(name) {
			secret[name] = v.Text
		}
	}
	return secret
}

func (r *Ref) text() string {
	if r == nil {
		return ""
	}
	return r.String()
}

// line writes "name: value", a multi-line value below its name, and nothing for an empty
// value.
func line(b *strings.Builder, name, value string) {
	switch {
	case value == "":
	case strings.Contains(value, "\n"):
		fmt.Fprintf(b, "%s:\n  %s\n", name, strings.ReplaceAll(value, "\n", "\n  "))
	default:
		fmt.Fprintf(b, "%s: %s\n", name, value)
	}
}

// canonical formats a JSON value on lines, with members sorted by name and numbers with all
// their digits.
func canonical(text json.RawMessage) string {
	if len(bytes.TrimSpace(text)) == 0 {
		return "null"
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return string(text)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if e.Encode(v) != nil {
		return string(text)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// casesText formats cases on lines; "" if there are none.
func casesText(cases []scripttest.Case) string {
	if len(cases) == 0 {
		return ""
	}
	text, err := json.Marshal(cases)
	if err != nil {
		return err.Error()
	}
	return canonical(text)
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

func didYouMean(name string, names []string) string {
	if meant := suggest.Closest(name, names); meant != "" {
		return fmt.Sprintf(": did you mean %q?", meant)
	}
	return ""
}
