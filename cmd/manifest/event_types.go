package manifest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/schema"
	"switchhook/scripts/scripttest"
)

var eventTypeName = regexp.MustCompile(`^\w+([.\-/:]\w+)*$`)

func (d *decoder) eventType(f field) *EventType {
	if !d.object(f, "name", "description", "schema", "samples", "verify") {
		return nil
	}
	t := &EventType{Place: d.place(f)}
	t.Name, t.Description = d.needed(f, "name", "such as order.created"), d.text(d.get(f, "description"))
	d.unique(f, "event type", "", t.Name)
	if t.Name != "" && !eventTypeName.MatchString(t.Name) {
		d.wrong(d.get(f, "name"), `%q is not an event type: use letters, digits and _ in parts joined by ".", such as "order.created"`, t.Name)
	}
	t.Verify = d.text(d.get(f, "verify"))
	d.reportAt(f, catalog.ValidateVerificationMode(engine.VerificationMode(t.Verify)).Err())
	var compiled *schema.Schema
	if at := d.get(f, "schema"); given(at) {
		if t.Schema = d.document(at); t.Schema != nil {
			var err error
			if compiled, err = schema.Compile(t.Schema); err != nil {
				d.wrong(at, "%v", err)
			}
		}
	}
	for _, e := range d.list(d.get(f, "samples"), "samples") {
		sample := d.document(e)
		if sample == nil {
			continue
		}
		t.Samples = append(t.Samples, sample)
		if compiled == nil {
			continue
		}
		if wrong := compiled.Validate(context.Background(), sample); wrong != nil {
			d.wrong(e, "does not follow the schema: %s", wrong)
		}
	}
	return t
}

const longestName = 100 // of a script; a subscription's has the same limit

func (d *decoder) properName(f field, name string) {
	if strings.TrimSpace(name) != name || len(name) > longestName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '/' }) || strings.HasPrefix(name, "scr_") {
		d.wrong(d.get(f, "name"), "%.40q must be 1 to %d bytes without a slash, a line break or spaces around it, and not begin with scr_", name, longestName)
	}
}

func (d *decoder) script(f field) *Script {
	if !d.object(f, "name", "account", "kind", "description", "file", "source", "tests") {
		return nil
	}
	s := &Script{Place: d.place(f), Account: cmp.Or(d.text(d.get(f, "account")), d.account), Kind: d.text(d.get(f, "kind")), Description: d.text(d.get(f, "description"))}
	s.Name = d.needed(f, "name", "subscriptions refer to the script by it")
	d.properName(f, s.Name)
	d.unique(f, "script", s.Account, s.Name)
	file, source := d.get(f, "file"), d.get(f, "source")
	switch {
	case given(file) && given(source):
		d.wrong(source, "and file are both given: give one of them")
	case given(file):
		text, name := d.fileOf(file)
		s.Source = string(text)
		if name != "" {
			s.SourceFile = d.shown(name)
			if s.Kind == "" {
				s.Kind = KindOf(name)
			}
		}
	case given(source):
		s.Source = d.text(source)
	}
	switch {
	case given(file) && s.SourceFile == "": // already reported
	case strings.TrimSpace(s.Source) == "":
		d.wrong(file, "is missing or empty: name the file with the source, or give the source itself in source")
	case s.Kind != "filter" && s.Kind != "transform":
		d.wrong(d.get(f, "kind"), `must be "filter" or "transform"`)
	}
	if at := d.get(f, "tests"); given(at) {
		s.Cases, s.TestsFile = d.cases(at)
	}
	return s
}

func (d *decoder) cases(f field) ([]scripttest.Case, string) {
	text, name := d.fileOf(f)
	if name == "" {
		return nil, ""
	}
	cases, err := scripttest.ReadCases(name, text, func(named string) ([]byte, error) {
		event, err := beside(name, named)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", named, err)
		}
		text, err := d.bytes(event, maxFile)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", named, err)
		}
		return text, nil
	})
	if wrong, ok := errors.AsType[*scripttest.ParseError](err); ok {
		d.loader.wrong(name, wrong.Line, "%v", err)
	}
	return cases, d.shown(name)
}
