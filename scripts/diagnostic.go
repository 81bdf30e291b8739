package scripts

import (
	"strings"
	"unicode"
)

// Location is a part of a script's source. Lines and columns count from 1; a column is a number of
// Unicode code points, and the end is the column after the last one.
type Location struct {
	Line      int    `json:"line,omitempty"` // 0 if unknown; then the others are, too
	Column    int    `json:"column,omitempty"`
	EndLine   int    `json:"end_line,omitempty"`
	EndColumn int    `json:"end_column,omitempty"`
	Snippet   string `json:"snippet,omitempty"` // the source line and a caret below the column
}

// Locate returns the location from a line and column to an end. An end of 0 is that of the word or
// character at the beginning. The location is zero if the line does not exist.
func Locate(source string, line, column, endLine, endColumn int) Location {
	text, ok := lineOf(source, line)
	if !ok {
		return Location{}
	}
	column = max(1, min(column, len(text)+1))
	l := Location{Line: line, Column: column, EndLine: endLine, EndColumn: endColumn, Snippet: Snippet(source, line, column)}
	if endLine < line || endLine == line && endColumn <= column {
		l.EndLine, l.EndColumn = line, column+wordLength(text, column)
	}
	return l
}

// LocateOffsets returns the location between two offsets in code points, as Locate.
func LocateOffsets(source string, from, to int) Location {
	line, column := position(source, from)
	endLine, endColumn := 0, 0
	if to > from {
		endLine, endColumn = position(source, to)
	}
	return Locate(source, line, column, endLine, endColumn)
}

// position returns the line and column of an offset in code points.
func position(source string, offset int) (line, column int) {
	line, column = 1, 1
	for _, r := range source {
		if offset <= 0 {
			break
		}
		offset--
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}

func lineOf(source string, line int) (text []rune, ok bool) {
	lines := strings.Split(source, "\n")
	if line < 1 || line > len(lines) {
		return nil, false
	}
	return []rune(strings.ReplaceAll(strings.TrimSuffix(lines[line-1], "\r"), "\t", " ")), true
}

// wordLength returns the length of the word at a column, or 1 if none begins there; 0 at the end of
// the line.
func wordLength(text []rune, column int) int {
	if column > len(text) {
		return 0
	}
	n := 0
	for _, r := range text[column-1:] {
		if r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			break
		}
		n++
	}
	return max(n, 1)
}

// Snippet returns the numbered line of source with a caret below the column, both
// 1-based; long lines are cut around the column. It is empty if the line does not exist.
func Snippet(source string, line, column int) string {
	text, ok := lineOf(source, line)
	if !ok {
		return ""
	}
	column = max(1, min(column, len(text)+1))
	const width = 100
	from := max(0, column-1-width/2)
	to := min(len(text), from+width)
	return string(text[from:to]) + "\n" + strings.Repeat(" ", column-1-from) + "^"
}

// Severity says whether a Diagnostic prevents a script from being saved or run.
type Severity string

// The severities of diagnostics.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning" // the script may still fail when it runs
)

// Diagnostic is something that is wrong with a script.
type Diagnostic struct {
	Source   string   `json:"source,omitempty"` // "filter" or "transform"; empty if there is only one script
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Location
}

// MaxDiagnostics limits the diagnostics of one script.
const MaxDiagnostics = 20

// Diagnostics returns the error and Others as diagnostics of a filter or transform. It may be called
// on nil.
func (e *Error) Diagnostics(source string) []Diagnostic {
	if e == nil {
		return nil
	}
	list := append([]Diagnostic{{Severity: SeverityError, Message: e.Message, Location: e.Location}}, e.Others...)
	for i := range list {
		list[i].Source = source
	}
	return list
}
