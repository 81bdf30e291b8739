package scripttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"switchhook/scripts"
)

// checkExpectations returns the expectations that were not met.
func checkExpectations(want *Expect, got *outcome, transforms bool) (failures []scripts.TestFailure) {
	fail := func(expected, diff, format string, args ...any) {
		failures = append(failures, scripts.TestFailure{Expected: expected, Message: fmt.Sprintf(format, args...), Diff: diff})
	}
	if want.empty() {
		fail("", "", "expects nothing: give matches, body, dropped or error, or let --update write what comes out")
		return failures
	}
	if want.Error == nil && got.Error != nil {
		fail("", "", "the %s failed: %s", got.ErrorIn, describe(got.Error))
		return failures
	}
	if want.Matches != nil && got.Error == nil && *want.Matches != got.Matched {
		fail("matches", "", "the filter %s", map[bool]string{true: "lets this event through", false: "keeps this event back"}[got.Matched])
		return failures
	}
	if want.Error != nil {
		if problem := want.Error.mismatch(got); problem != "" {
			fail("error", "", "%s", problem)
		}
	}
	if want.Console != nil {
		if diff := differences(want.Console, append([]string{}, got.Console...)); diff != "" {
			fail("console", diff, "the console differs")
		}
	}
	switch {
	case want.Dropped == nil && !want.ofRequest():
	case got.Error != nil:
		fail("", "", "the %s failed, so nothing is sent", got.ErrorIn)
	case !got.Matched:
		fail("matches", "", "the filter keeps this event back, so nothing else can come of it")
	case !transforms:
		fail("", "", "there is no transform, so there is nothing to compare")
	default:
		failures = append(failures, want.checkRequest(got)...)
	}
	return failures
}

// checkRequest returns the expectations of the request, or of a drop, that were not met.
func (want *Expect) checkRequest(got *outcome) (failures []scripts.TestFailure) {
	fail := func(expected, diff, format string, args ...any) {
		failures = append(failures, scripts.TestFailure{Expected: expected, Message: fmt.Sprintf(format, args...), Diff: diff})
	}
	switch {
	case want.Dropped != nil && !got.Dropped:
		fail("dropped", "", "the transform does not drop this event, it sends %s", brief(got.Body))
		return failures
	case want.Dropped != nil && want.Dropped.Reason != "" && want.Dropped.Reason != got.DropReason:
		fail("dropped", differences(want.Dropped.Reason, got.DropReason), "the transform drops it for another reason")
	case want.Dropped == nil && got.Dropped:
		fail("", "", "the transform drops this event: %s", got.DropReason)
	}
	if got.Dropped {
		return failures
	}
	compare := func(expected string, want, got any) {
		if diff := differences(want, got); diff != "" {
			fail(expected, diff, "%s differs", expected)
		}
	}
	if want.Body != nil && !got.bodyIs(want.Body) {
		compare("body", decoded(want.Body), decoded(got.Body))
	}
	if want.BodyContains != nil {
		w, g := decoded(want.BodyContains), decoded(got.Body)
		compare("body_contains", w, part(w, g))
	}
	if want.Method != "" {
		compare("method", strings.ToUpper(want.Method), got.Method)
	}
	if want.Path != "" {
		compare("path", want.Path, got.Path)
	}
	if want.Query != nil {
		compare("query", generic(want.Query), generic(queryValues(got.Query)))
	}
	if want.Headers != nil {
		compare("headers", generic(want.Headers), generic(headersNamed(want.Headers, got.Headers)))
	}
	return failures
}

// bodyIs reports whether a text body is the expected string, even if the text happens to be
// JSON.
func (g *outcome) bodyIs(want json.RawMessage) bool {
	text, ok := decoded(want).(string)
	return ok && text == g.text
}

// headersNamed returns the sent headers of these names, spelt as in names.
func headersNamed(names, headers map[string]string) map[string]string {
	found := map[string]string{}
	for name := range names {
		for sent, value := range headers {
			if http.CanonicalHeaderKey(sent) == http.CanonicalHeaderKey(name) {
				found[name] = value
			}
		}
	}
	return found
}

// queryValues converts a query to the form in which cases state one.
func queryValues(query map[string][]string) map[string]Values {
	values := make(map[string]Values, len(query))
	for name, list := range query {
		values[name] = list
	}
	return values
}

// mismatch describes how the outcome differs from the expected failure; "" if it does not.
func (want *Failing) mismatch(got *outcome) string {
	e := got.Error
	switch {
	case e == nil && !got.Matched:
		return "nothing fails: the filter keeps this event back"
	case e == nil && got.Dropped:
		return "nothing fails: the transform drops this event: " + got.DropReason
	case e == nil && !got.Ran:
		return "nothing fails: the filter lets this event through"
	case e == nil:
		return "nothing fails: the transform sends " + brief(got.Body)
	case e.Phase == scripts.PhaseBusy:
		return "it was not run: " + e.Message
	case want.Phase != "" && want.Phase != string(e.Phase) && want.Phase != got.ErrorIn:
		return fmt.Sprintf("it fails in phase %s of the %s, not in %s: %s", e.Phase, got.ErrorIn, want.Phase, describe(e))
	case !strings.Contains(e.Message, want.Contains):
		return fmt.Sprintf("the message does not hold %q: %s", want.Contains, describe(e))
	case want.Line != 0 && want.Line != e.Line:
		return fmt.Sprintf("it fails in line %d, not in line %d: %s", e.Line, want.Line, describe(e))
	}
	return ""
}

// describe returns an error's message with the source line it points at.
func describe(e *scripts.Error) string {
	if e.Snippet == "" {
		return e.Error()
	}
	return e.Error() + "\n" + e.Snippet
}

func brief(body json.RawMessage) string {
	const most = 80
	if r := []rune(string(body)); len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(body)
}
