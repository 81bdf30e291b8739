package scripttest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/yamljson"
)

// Change is a case whose expectations Update has changed.
type Change struct {
	Name   string `json:"name"`
	Expect string `json:"expect"` // JSON on one line
}

// Update returns the file's text with the actual outcomes as the expectations of the failed
// cases, and the list of these cases. The rest of the text stays unchanged. So does a case
// that has expectations and got an error, since a broken script is hardly ever intended.
func (f *File) Update(r *scripts.TestReport) (text []byte, changes []Change, err error) {
	reports := map[string]*scripts.TestCaseReport{}
	for i := range r.Cases {
		if !r.Cases[i].Passed {
			reports[r.Cases[i].Name] = &r.Cases[i]
		}
	}
	text = f.text
	for i := len(f.Suite.Cases) - 1; i >= 0; i-- { // from the end, so that earlier offsets stay valid
		c := &f.Suite.Cases[i]
		report := reports[c.Name]
		if report == nil {
			continue
		}
		if e := report.Got.Error; e != nil && e.Phase == scripts.PhaseBusy {
			return nil, nil, fmt.Errorf("%s: %q was not run: %s", f.Path, c.Name, e.Message)
		}
		if report.Got.Error != nil && !c.Expect.empty() && c.Expect.Error == nil {
			continue
		}
		accepted, err := marshal(c.Expect.withOutcome(&report.Got))
		if err != nil {
			return nil, nil, err
		}
		doc, err := jsonindex.Parse(accepted, jsonindex.Limits{})
		if err != nil {
			return nil, nil, err
		}
		if f.document != nil {
			text, err = replaceExpectYAML(text, f.document, i, doc.Root())
		} else {
			text, err = replaceExpect(text, i, doc.Root())
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %q: %w", f.Path, c.Name, err)
		}
		var line strings.Builder
		flat(&line, doc.Root())
		changes = append(changes, Change{c.Name, line.String()})
	}
	if len(changes) == 0 {
		return text, nil, nil
	}
	slices.Reverse(changes)
	// The file was written by a user: a text that can't be parsed again is not written.
	again := &File{Path: f.Path, text: text}
	if err := again.decodeText(); err != nil {
		return nil, nil, fmt.Errorf("%s can't be updated: %w", f.Path, err)
	}
	return text, changes, nil
}

// withOutcome returns expectations on the same members that the outcome meets.
func (want Expect) withOutcome(got *scripts.TestOutcome) Expect {
	var now Expect
	if want.Console != nil {
		now.Console = append([]string{}, got.Console...)
	}
	switch {
	case got.Error != nil:
		now.Error = want.Error.withOutcome(got)
		return now
	case !got.Matched || !got.Ran:
		now.Matches = &got.Matched
		return now
	case got.Dropped:
		now.Dropped = &Dropped{Reason: got.DropReason}
		return now
	}
	if want.Matches != nil {
		now.Matches = &got.Matched
	}
	if want.BodyContains != nil {
		now.BodyContains, _ = marshal(part(decoded(want.BodyContains), decoded(got.Body))) // decoded JSON can be encoded
	}
	if want.Body != nil || !want.ofRequest() {
		now.Body = got.Body
	}
	all := want.empty() // the case has not chosen fields to check
	if want.Method != "" || all && got.Method != http.MethodPost {
		now.Method = got.Method
	}
	if want.Path != "" || all && got.Path != targetPath {
		now.Path = got.Path
	}
	if want.Query != nil || all && len(got.Query) > 0 {
		now.Query = queryValues(got.Query)
	}
	if want.Headers != nil {
		now.Headers = headersNamed(want.Headers, got.Headers)
	} else if all {
		now.Headers = chosenHeaders(got.Headers)
	}
	return now
}

// chosenHeaders returns the headers without a default content type; nil if there are no
// others.
func chosenHeaders(headers map[string]string) map[string]string {
	chosen := map[string]string{}
	for name, value := range headers {
		if http.CanonicalHeaderKey(name) != "Content-Type" || value != "application/json" && !strings.HasPrefix(value, "text/plain") {
			chosen[name] = value
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	return chosen
}

func (want *Failing) withOutcome(got *scripts.TestOutcome) *Failing {
	now := &Failing{Contains: got.Error.Message}
	if want == nil {
		return now
	}
	switch want.Phase {
	case "":
	case "filter", "transform":
		now.Phase = got.ErrorIn
	default:
		now.Phase = string(got.Error.Phase)
	}
	if want.Line != 0 {
		now.Line = got.Error.Line
	}
	return now
}

// replaceExpect replaces the expectations of case i by a value.
func replaceExpect(text []byte, i int, value jsonindex.Value) ([]byte, error) {
	doc, err := parse(text)
	if err != nil {
		return nil, err
	}
	root := doc.Root()
	for j, c := range root.Get("cases").Elements() {
		if j != i {
			continue
		}
		old := c.Get("expect")
		from, to := old.Offset(), old.Offset()+len(old.Raw())
		return splice(text, from, to, layout(value, indentAt(text, from))), nil
	}
	return nil, fmt.Errorf("the file has no case %d any more", i)
}

func splice(text []byte, from, to int, with string) []byte {
	return append(append(append([]byte{}, text[:from]...), with...), text[to:]...)
}

// indentAt returns the leading white space of the line at offset.
func indentAt(text []byte, offset int) string {
	line := string(text[:offset])
	line = line[strings.LastIndexByte(line, '\n')+1:]
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}

// replaceExpectYAML replaces the expectations of case i in YAML, where the value ends before
// the next line that is not indented deeper than its key.
func replaceExpectYAML(text []byte, doc *yamljson.Doc, i int, value jsonindex.Value) ([]byte, error) {
	line, column, ok := doc.BlockKey("cases", i, "expect")
	lines := strings.SplitAfter(string(text), "\n")
	if !ok || strings.Trim(lines[line-1][:column-1], " -") != "" {
		return nil, errors.New("only cases in block style, \"expect:\" on a line of its own, can be updated")
	}
	end := line
	for j := line; j < len(lines); j++ {
		content := strings.TrimLeft(lines[j], " ")
		if strings.TrimSpace(content) == "" || strings.HasPrefix(content, "#") { // it may belong to the next node
			continue
		}
		if len(lines[j])-len(content) < column {
			break
		}
		end = j + 1
	}
	first := lines[line-1]
	head := first[:column-1] + "expect:" // columns count runes, but only spaces and dashes precede the key
	body := block(value, strings.Repeat(" ", column+1))
	return []byte(strings.Join(lines[:line-1], "") + head + body + strings.Join(lines[end:], "")), nil
}
