package cmd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchhook/engine/evaluate"
	"switchhook/engine/target"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/scripteval"
	"switchhook/scripts/scripttest"
)

type previewCommand struct {
	Transform  string  `help:"File with the transform, JavaScript or TypeScript." placeholder:"FILE"`
	Filter     *string `help:"Filter expression." placeholder:"EXPR" xor:"filter" multiline:""`
	FilterFile string  `help:"File with the filter expression." placeholder:"FILE" xor:"filter"`
	Event      string  `help:"The event, {\"type\": …, \"data\": …}, or just the payload: JSON, a file with it, or - for standard input." placeholder:"JSON|FILE" required:"" multiline:"" maxlen:"16777216"`
	Type       string  `help:"The event's type; example.event if neither this nor the file gives one." placeholder:"TYPE"`
	Schema     string  `help:"The JSON Schema of the event type, to check the filter against: JSON, or a file with it." placeholder:"JSON|FILE" multiline:"" maxlen:"16777216"`
	Target     string  `help:"Target URL of the request." default:"https://example.com/hook" placeholder:"URL"`
	Secret     secret  `help:"Signing secret (whsec_…, whsk_…); without one the signature is left out." placeholder:"SECRET"`
	JSON       bool    `name:"json" help:"Print JSON."`
	Verbose    bool    `help:"Log sandbox activity to standard error."`
}

// The exit statuses of preview.
const (
	previewFailed  = 1
	previewNotSent = 3
)

// Help implements kong.HelpProvider.
func (*previewCommand) Help() string {
	return `Nothing is sent, and no router is needed. The filter's result is explained by the value of each of its parts.

Exit status: 0 the event matches and a request would be sent; 3 the filter does not match or the transform drops it; 1 a script or a file is wrong; 2 the command line is.

  switchhook preview --transform order.ts --event order.json --filter 'data.total > 100'
  switchhook preview --filter 'data.total > 100' --event '{"total": 120}'
  jq .data event.json | switchhook preview --type order.created --transform order.ts --event -`
}

// preview is the result of a preview.
type preview struct {
	Matched     bool                 `json:"matched"`
	Explanation *scripts.Explanation `json:"explanation,omitempty"` // of the filter
	Error       *scripts.Error       `json:"error,omitempty"`
	ErrorIn     string               `json:"error_in,omitempty"` // "filter" or "transform"
	Dropped     bool                 `json:"dropped,omitempty"`
	DropReason  string               `json:"drop_reason,omitempty"`
	Request     *previewedRequest    `json:"request,omitempty"`
	Console     []string             `json:"console,omitempty"`
	TransformMS float64              `json:"transform_ms,omitempty"` // CPU time
	Diagnostics []scripts.Diagnostic `json:"diagnostics"`            // of both scripts
	DurationMS  float64              `json:"duration_ms"`            // compilation included

	outcome *scripteval.Outcome
}

// previewedRequest is the request that would be sent.
type previewedRequest struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`

	path, host string
}

// Run previews an event.
func (c *previewCommand) Run(ctx context.Context) error {
	target, err := c.check()
	if err != nil {
		return err
	}
	input, err := c.read()
	if err != nil {
		return err
	}
	input.target = target
	began := time.Now()
	t, err := c.preview(ctx, input)
	if err != nil {
		return err
	}
	t.DurationMS = float64(time.Since(began).Microseconds()) / 1000
	showWarnings(scripts.Warnings(input.transform))
	if c.JSON {
		err = printJSON(t)
	} else {
		_, err = os.Stdout.WriteString(t.String())
		if c.Secret == "" && t.Request != nil {
			fmt.Fprintln(os.Stderr, "webhook-signature is left out: give --secret to see it")
		}
	}
	switch {
	case err != nil:
		return err
	case t.Error != nil:
		return &statusError{status: previewFailed}
	case !t.Matched || t.Dropped:
		return &statusError{status: previewNotSent}
	}
	return nil
}

// previewInput holds the parsed values of the flags.
type previewInput struct {
	event     *scripts.Event
	filter    string
	transform string
	schemas   [][]byte
	target    *url.URL
}

// check validates the flags themselves, before any file is read.
func (c *previewCommand) check() (u *url.URL, err error) {
	switch {
	case c.Transform == "" && c.Filter == nil && c.FilterFile == "":
		return nil, usageError("give --transform, --filter or --filter-file: there is nothing to preview")
	case c.Type != "" && (len(c.Type) > longestType || !eventType.MatchString(c.Type)):
		return nil, usageError(`--type: %.140q is not an event type: use letters, digits and _ in parts joined by ".", such as "order.created", %d characters at most`, c.Type, longestType)
	}
	if u, err = target.Parse(c.Target); err != nil {
		return nil, usageError("--target: %v", err)
	}
	return u, checkSecret(c.Secret)
}

// Event types that the router accepts: parts may be joined by - / and : as well, which it
// does not advertise.
var eventType = regexp.MustCompile(`^[A-Za-z0-9_]+([./:-][A-Za-z0-9_]+)*$`)

const longestType = 128

func (c *previewCommand) read() (in previewInput, err error) {
	if in.event, err = c.readEvent(); err != nil {
		return in, err
	}
	if c.Filter != nil {
		in.filter = *c.Filter
	}
	for _, f := range []struct {
		name string
		into *string
	}{{c.FilterFile, &in.filter}, {c.Transform, &in.transform}} {
		if f.name == "" {
			continue
		}
		if *f.into, err = readScriptFile(f.name); err != nil {
			return in, err
		}
	}
	if c.Schema != "" {
		schema, name, err := readJSONValue("--schema", c.Schema)
		if err != nil {
			return in, err
		}
		if len(bytes.TrimSpace(schema)) == 0 {
			return in, fmt.Errorf("%s is empty", name)
		}
		in.schemas = [][]byte{schema}
	}
	return in, nil
}

func (c *previewCommand) readEvent() (*scripts.Event, error) {
	text, name, err := readJSONValue("--event", c.Event)
	if err != nil {
		return nil, err
	}
	e, err := scripttest.ReadEvent(text)
	if err != nil {
		return nil, fmt.Errorf("--event: %w", err)
	}
	if e.Type == "" {
		c.warnBarePayload(name, text)
	}
	e.Data = bytes.TrimSpace(e.Data)
	e.Type = cmp.Or(c.Type, e.Type, "example.event")
	if e.Time.IsZero() {
		e.Time = time.Now().UTC().Truncate(time.Millisecond) // as if it had just been published
	}
	return e.Event(), nil
}

// warnBarePayload reports that a file which looks like an event, or whose format no flag gives, was
// read as a payload.
func (c *previewCommand) warnBarePayload(name string, text []byte) {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return // a list or a number can only be a payload
	}
	_, hasType := members["type"]
	_, hasData := members["data"]
	const event = `an event is {"type": …, "data": …}`
	switch {
	case hasType && hasData:
		fmt.Fprintf(os.Stderr, "%s holds more than an event does, so all of it is the payload; %s\n", name, event)
	case !hasData && (hasType || c.Type == ""):
		fmt.Fprintf(os.Stderr, "%s has no \"data\", so all of it is the payload; %s\n", name, event)
	}
}

// preview runs the filter and then the transform.
func (c *previewCommand) preview(ctx context.Context, in previewInput) (*preview, error) {
	var sandbox scripteval.Transformer
	if in.transform != "" {
		pool, err := startSandbox(c.Verbose)
		if err != nil {
			return nil, err
		}
		defer pool.Close()
		sandbox = pool
	}
	compiled, err := scripteval.Compile(ctx, sandbox, filter.Compile, in.filter, in.transform, in.schemas...)
	if err != nil {
		return nil, err
	}
	compiled.Request = evaluate.BuildOfflineRequest(in.target)
	o, err := scripteval.Evaluate(ctx, &compiled, in.event, true)
	if err != nil {
		return nil, err
	}
	res := &o.Result
	t := &preview{
		Matched: o.Matched && o.FilterError == nil, Explanation: o.Explanation, Console: res.Console, outcome: o,
		TransformMS: float64(res.CPU.Microseconds()) / 1000, Dropped: res.Dropped, DropReason: res.DropReason,
	}
	if o.Matched && o.TransformError == nil && !res.Dropped {
		if !o.Ran {
			res = nil
		}
		if err := c.compose(t, in, res); err != nil {
			return nil, err
		}
	}
	t.Error, t.ErrorIn = o.Error()
	t.Diagnostics = append([]scripts.Diagnostic{}, o.Diagnostics(in.transform)...)
	return t, nil
}

// showWarnings prints on standard error the code in a transform that throws when it runs.
func showWarnings(list []scripts.Diagnostic) {
	for _, w := range list {
		fmt.Fprintf(os.Stderr, "warning: line %d, column %d: %s\n", w.Line, w.Column, printable(w.Message))
	}
}

// compose builds the request as the router does; res is nil without a transform.
func (c *previewCommand) compose(t *preview, in previewInput, res *scripts.Result) error {
	preview := evaluate.OfflineRequest{
		Target: in.target.String(), Secret: string(c.Secret), UserAgent: "Switchhook/" + Version, ID: in.event.ID, Event: in.event, Result: res, At: time.Now(),
	}
	req, err := preview.Build()
	if t.outcome.TransformError, err = scripteval.Fault(err); req == nil {
		return err
	}
	headers := map[string]string{"Content-Length": strconv.Itoa(len(req.Body))}
	for _, h := range req.Headers {
		headers[h.Name] = h.Value
	}
	u, err := url.Parse(req.URL)
	if err != nil {
		return err
	}
	t.Request = &previewedRequest{Method: req.Method, URL: req.URL, Headers: headers, Body: string(req.Body), path: u.RequestURI(), host: u.Host}
	return nil
}

func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// String formats a preview for people.
func (t *preview) String() string {
	var b strings.Builder
	if t.Explanation != nil {
		b.WriteString(explanationText(t.Explanation) + "\n")
	}
	for _, line := range t.Console {
		b.WriteString("console  " + printable(line) + "\n")
	}
	writeFailure(&b, "filter", t.outcome.FilterError)
	writeFailure(&b, "transform", t.outcome.TransformError)
	switch {
	case t.Request == nil && t.Error != nil:
	case t.Request == nil && !t.Matched:
		b.WriteString("The filter does not match this event: nothing would be sent.\n")
	case t.Dropped:
		fmt.Fprintf(&b, "The transform drops this event: %s\n", printable(cmp.Or(t.DropReason, "no reason given")))
	default:
		if t.TransformMS > 0 {
			fmt.Fprintf(&b, "The transform took %.2f ms. ", t.TransformMS)
		}
		if t.Error != nil {
			b.WriteString("If the filter matched, this would be sent:\n\n")
		} else {
			b.WriteString("This would be sent:\n\n")
		}
		b.WriteString(t.Request.String())
	}
	return b.String()
}

// writeFailure writes the errors of a script, if it failed.
func writeFailure(b *strings.Builder, source string, e *scripts.Error) {
	for i, d := range e.Diagnostics(source) {
		if i == 0 {
			fmt.Fprintf(b, "The %s failed (%s): %s\n", source, e.Phase, printable(e.Error()))
		} else {
			fmt.Fprintf(b, "Line %d, column %d: %s\n", d.Line, d.Column, printable(d.Message))
		}
		b.WriteString(indentLines(printable(d.Snippet), "  "))
	}
}

// String formats the request as on the wire.
func (r *previewedRequest) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\nHost: %s\n", r.Method, r.path, r.host)
	for _, name := range slices.SortedFunc(maps.Keys(r.Headers), func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }) {
		fmt.Fprintf(&b, "%s: %s\n", name, printable(r.Headers[name]))
	}
	fmt.Fprintf(&b, "\n%s\n", printable(r.Body))
	return b.String()
}

func indentLines(text, indent string) string {
	if text == "" {
		return ""
	}
	return indent + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+indent) + "\n"
}
