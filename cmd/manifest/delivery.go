package manifest

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/signature"
	"switchhook/scripts/jsonindex"
	"switchhook/server"
	"switchhook/server/api"
)

// delivery reads a subscription's delivery settings, in the API's form, and validates them,
// with the headers, as the router will.
func (d *decoder) delivery(f field, s *Subscription) {
	before := len(d.problems)
	policy := d.get(f, "policy")
	for name, members := range map[string][]string{"rate": server.RateMembers, "retries": server.BackoffMembers} {
		if at := d.get(policy, name); at.Kind() == jsonindex.Object {
			d.object(at, members...)
		}
	}
	s.Policy = readSettings(d, f, "policy", server.PolicyMembers, server.ReadPolicy)
	s.Batch = readSettings(d, f, "batch", server.BatchMembers, server.ReadBatch)
	s.Debounce = readSettings(d, f, "debounce", server.DebounceMembers, server.ReadDebounce)
	for _, at := range d.list(d.get(f, "signatures"), "signatures") {
		s.Signatures = append(s.Signatures, signature.Scheme(d.text(at)))
	}
	s.PayloadFormat = d.text(d.get(f, "payload_format"))
	if s.PayloadFormat == "" {
		s.PayloadFormat = string(engine.FormatStandard)
	}
	if numbered := d.boolean(d.get(f, "numbered")); numbered != nil {
		s.Numbered = *numbered
	}
	s.Verify = engine.VerificationMode(d.text(d.get(f, "verify")))
	if len(d.problems) == before { // otherwise an unread member would be reported as missing
		d.reportAt(f, catalog.ValidateDeliverySettings(s.DeliverySettings()))
	}
}

// DeliverySettings returns the delivery settings of s as a subscription of the engine.
func (s *Subscription) DeliverySettings() *engine.Subscription {
	terms := &engine.Subscription{
		Policy: s.Policy, Batch: s.Batch, Debounce: s.Debounce, Signatures: s.Signatures, Numbered: s.Numbered,
		PayloadFormat: engine.PayloadFormat(s.PayloadFormat), Verification: engine.Verification{Mode: s.Verify}, Headers: map[string]string{}, VisibleHeaders: s.VisibleHeaders,
	}
	for name, v := range s.Headers {
		terms.Headers[name] = v.Text
	}
	return terms
}

// readSettings reads the member name of f with one of the API's readers. The readers ignore
// members that they do not know, so readSettings checks them.
func readSettings[T any](d *decoder, f field, name string, members []string, read func([]byte) (T, error)) (terms T) {
	before, at := len(d.problems), d.get(f, name)
	if !given(at) || !d.object(at, members...) || len(d.problems) > before {
		return terms
	}
	terms, err := read(at.Raw())
	d.reportAt(f, err)
	return terms
}

// reportAt reports an error of the API or of the engine at the position of the field that it
// names, relative to f.
func (d *decoder) reportAt(f field, err error) {
	if problem, ok := errors.AsType[*api.Error](err); ok {
		d.wrong(d.find(f, problem.Field), "%s", strings.TrimPrefix(problem.Detail, problem.Field+" "))
	} else if wrong, ok := errors.AsType[*engine.Error](err); ok {
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
