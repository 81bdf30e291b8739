package cmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
)

const widestTerm = 60 // characters; a wider term has its value on the next line

// explanationText formats a filter's terms as an indented tree with their values.
func explanationText(ex *scripts.Explanation) string {
	lines := make([]string, len(ex.Terms))
	width := 0
	for i, t := range ex.Terms {
		lines[i] = strings.Repeat("  ", t.Depth) + mark(t) + " " + printable(t.Source)
		if n := utf8.RuneCountInString(lines[i]); n <= widestTerm {
			width = max(width, n)
		}
	}
	var b strings.Builder
	for i, t := range ex.Terms {
		fmt.Fprintf(&b, "%s%s  %s\n", lines[i], strings.Repeat(" ", max(0, width-utf8.RuneCountInString(lines[i]))), printable(termValue(t)))
	}
	return b.String()
}

func mark(t scripts.Term) string {
	switch {
	case t.State == scripts.TermFailed:
		return "!"
	case t.State == scripts.TermSkipped || t.Result == nil:
		return " "
	case *t.Result:
		return "✓"
	}
	return "✗"
}

// termValue describes the value of a term.
func termValue(t scripts.Term) string {
	switch {
	case t.State == scripts.TermSkipped:
		return "not evaluated"
	case t.State == scripts.TermFailed:
		return t.Error
	case t.Missing:
		return "missing"
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	switch {
	case t.Value == nil && t.Summary != "":
		return t.Summary
	case e.Encode(t.Value) != nil:
		return ""
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if t.Summary != "" {
		text += " (" + t.Summary + ")"
	}
	return text
}

// newTable returns a writer that aligns columns on standard output. Their text
// comes from the server at the router's address, so all of it is made printable.
func newTable() *tabwriter.Writer {
	return tabwriter.NewWriter(printableWriter{os.Stdout}, 0, 4, 2, ' ', 0)
}

type printableWriter struct{ to io.Writer }

func (w printableWriter) Write(text []byte) (int, error) {
	_, err := io.WriteString(w.to, printable(string(text)))
	return len(text), err
}

// printable escapes the characters that a terminal interprets: controls, except line breaks and
// tabs, and those that change the direction of text.
func printable(s string) string {
	obeyed := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Bidi_Control) && r != '\n' && r != '\t' }
	if strings.IndexFunc(s, obeyed) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if obeyed(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// startSandbox starts the sandbox for a command that runs the caller's own scripts. It logs
// nothing but a warning if this machine isolates less than it should.
func startSandbox(verbose bool) (*sandbox.Pool, error) {
	log := slog.New(slog.DiscardHandler)
	if verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	pool, err := sandbox.Start(sandbox.Config{Processes: 2, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("start the script sandbox: %w", err)
	}
	if missing := pool.Protections().Missing(); len(missing) > 0 && !verbose {
		fmt.Fprintf(os.Stderr, "switchhook: on this machine the sandbox lacks %s: run scripts that you trust only\n", strings.Join(missing, ", "))
	}
	return pool, nil
}
