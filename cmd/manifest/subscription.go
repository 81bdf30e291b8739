package manifest

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"switchhook/engine/target"
	"switchhook/scripts/jsonindex"
)

func (d *decoder) subscription(f field) *Subscription {
	if !d.object(f, "name", "account", "event", "events", "target_url", "filter", "filter_script", "transform", "transform_script", "headers", "visible_headers", "payload_format", "policy", "batch", "debounce", "signatures", "numbered", "verify", "description", "metadata", "active") {
		return nil
	}
	s := &Subscription{Place: d.place(f), Account: cmp.Or(d.text(d.get(f, "account")), d.account), Description: d.text(d.get(f, "description"))}
	s.Name = d.needed(f, "name", "apply knows the subscription again by it")
	d.properName(f, s.Name)
	d.unique(f, "subscription", s.Account, s.Name)
	s.Events = d.events(f)
	d.needed(f, "target_url", "the address that is sent to")
	s.TargetURL = d.value(d.get(f, "target_url"))
	var refused *target.RefusedError
	if _, err := target.Parse(s.TargetURL.Text); s.TargetURL.Text != "" && errors.As(err, &refused) {
		d.wrong(d.get(f, "target_url"), "is no address such as https://example.com/hook: %s", refused.Reason)
	}
	s.Filter, s.FilterScript = d.use(f, "filter")
	s.Filter = strings.TrimSpace(s.Filter)
	s.Transform, s.TransformScript = d.use(f, "transform")
	s.Headers = d.headers(d.get(f, "headers"))
	for _, at := range d.list(d.get(f, "visible_headers"), "names of headers") {
		s.VisibleHeaders = append(s.VisibleHeaders, d.text(at))
	}
	d.delivery(f, s)
	s.Metadata = map[string]string{}
	if at := d.get(f, "metadata"); given(at) && d.object(at, members(at)...) {
		for _, name := range members(at) {
			if strings.HasPrefix(name, OwnKeys) {
				d.wrong(d.get(at, name), "can't be given: names that begin with %q belong to apply", OwnKeys)
			}
			s.Metadata[name] = d.text(d.get(at, name))
		}
	}
	s.Active = d.boolean(d.get(f, "active"))
	return s
}

func members(f field) (names []string) {
	for name := range f.Members() {
		names = append(names, strings.Clone(name))
	}
	return names
}

func (d *decoder) events(f field) (names []string) {
	one, several := d.get(f, "event"), d.get(f, "events")
	fields := d.list(several, "event types")
	switch {
	case given(one) && given(several):
		d.wrong(one, "and events are both given: give one of them")
	case given(one):
		fields = []field{one}
	}
	for _, e := range fields {
		name := d.text(e)
		switch {
		case name != "*" && !eventTypeName.MatchString(strings.TrimSuffix(name, ".*")):
			d.wrong(e, `%q is neither an event type ("order.created") nor a pattern ("order.*" or "*")`, name)
		case slices.Contains(names, name):
			d.wrong(e, "%q is named twice", name)
		}
		names = append(names, name)
	}
	if len(fields) == 0 {
		d.wrong(one, `is missing: name an event type ("order.created"), a pattern ("order.*") or "*"`)
	}
	return names
}

// use reads a filter or transform: an inline source or a script.
func (d *decoder) use(f field, kind string) (source string, ref *Ref) {
	own, script := d.get(f, kind), d.get(f, kind+"_script")
	if given(own) && given(script) {
		d.wrong(script, "and %s are both given: give one of them", kind)
	}
	source = d.text(own)
	if strings.TrimSpace(source) == "" {
		source = ""
	}
	switch {
	case !given(script):
		return source, nil
	case script.Kind() == jsonindex.String:
		return source, &Ref{Name: d.text(script)}
	case !d.object(script, "name", "version"):
		return source, nil
	}
	ref = &Ref{Name: d.needed(script, "name", "which script")}
	if at := d.get(script, "version"); given(at) {
		var err error
		if ref.Version, err = strconv.Atoi(string(at.Raw())); err != nil || ref.Version < 1 {
			d.wrong(at, "must be the number of a version; left out, it is the live one")
		}
	}
	return source, ref
}

func (d *decoder) headers(f field) map[string]Value {
	headers := map[string]Value{}
	if !given(f) || !d.object(f, members(f)...) {
		return headers
	}
	seen := map[string]bool{}
	for _, name := range members(f) {
		at := d.get(f, name)
		if folded := strings.ToLower(name); seen[folded] {
			d.wrong(at, "is given twice: names of headers don't tell cases apart")
		} else {
			seen[folded] = true
		}
		headers[name] = d.value(at)
		if given(at) && headers[name].Text == hidden {
			d.wrong(at, "is %q, which is how the router shows a value that it hides: give the value by ${NAME}", hidden)
		}
	}
	return headers
}
