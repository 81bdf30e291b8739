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
)

// delivery reads how a subscription's deliveries are made, in the words of the API, and
// checks it, with the headers, as the router will.
func (d *decoder) delivery(f field, s *Subscription) {
	before := len(d.mistakes)
	policy := d.get(f, "policy")
	for name, members := range map[string][]string{"rate": server.RateMembers, "retries": server.BackoffMembers} {
		if at := d.get(policy, name); at.Kind() == jsonindex.Object {
			d.object(at, members...)
		}
	}
	s.Policy = readTerms(d, f, "policy", server.PolicyMembers, server.ReadPolicy)
	s.Batch = readTerms(d, f, "batch", server.BatchMembers, server.ReadBatch)
	s.Debounce = readTerms(d, f, "debounce", server.DebounceMembers, server.ReadDebounce)
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
	if len(d.mistakes) == before { // else what was not read would be called missing
		d.blame(f, catalog.ValidateDeliverySettings(s.Terms()))
	}
}

// Terms is what s says of how its deliveries are made, as the engine has it.
func (s *Subscription) Terms() *engine.Subscription {
	terms := &engine.Subscription{
		Policy: s.Policy, Batch: s.Batch, Debounce: s.Debounce, Signatures: s.Signatures, Numbered: s.Numbered,
		PayloadFormat: engine.PayloadFormat(s.PayloadFormat), Verification: engine.Verification{Mode: s.Verify}, Headers: map[string]string{}, VisibleHeaders: s.VisibleHeaders,
	}
	for name, v := range s.Headers {
		terms.Headers[name] = v.Text
	}
	return terms
}

// readTerms reads a member of f by a reader of the API's, which leaves members alone that
// it does not know.
func readTerms[T any](d *decoder, f field, name string, members []string, read func([]byte) (T, error)) (terms T) {
	before, at := len(d.mistakes), d.get(f, name)
	if !given(at) || !d.object(at, members...) || len(d.mistakes) > before {
		return terms
	}
	terms, err := read(at.Raw())
	d.blame(f, err)
	return terms
}

// blame tells an error of the API's or of the engine's where the field stands that it
// names, beginning at f.
func (d *decoder) blame(f field, err error) {
	if problem, ok := errors.AsType[*server.Problem](err); ok {
		d.wrong(d.find(f, problem.Field), "%s", strings.TrimPrefix(problem.Detail, problem.Field+" "))
	} else if wrong, ok := errors.AsType[*engine.Error](err); ok {
		d.wrong(d.find(f, wrong.Field), "%s", wrong.Message)
	} else if err != nil {
		d.wrong(f, "%v", err)
	}
}

var pathPart = regexp.MustCompile(`[^.\[\]]+`)

// find gives what a path such as "policy.retries[2]" leads to from f.
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
