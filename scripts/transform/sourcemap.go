package transform

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"switchhook/scripts"

	"github.com/dop251/goja"
	"github.com/dop251/goja/file"
)

// maxFrames is the maximum number of stack frames in an error.
const maxFrames = 10

func errorAt(phase scripts.Phase, message, source string, line, column int) *scripts.Error {
	return &scripts.Error{Phase: phase, Message: message, Location: scripts.Locate(source, line, column, 0, 0)}
}

// lineColumn returns the 1-based line and column, in characters, of a byte offset.
func lineColumn(source string, offset int) (line, column int) {
	before := source[:offset]
	return 1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
}

func lineOf(source string, line int) string {
	for range line - 1 {
		_, source, _ = strings.Cut(source, "\n")
	}
	source, _, _ = strings.Cut(source, "\n")
	return source
}

// originalPosition converts a position that goja has mapped through the source map to the author's
// line and column. ok is false for code that the author did not write.
func (l *Loaded) originalPosition(p file.Position) (line, column int, ok bool) {
	if p.Filename != sourceName {
		return 0, 0, false
	}
	return p.Line, l.column(p.Line, p.Column), true
}

// column converts a source map's column (UTF-16 units from 0) to characters from 1.
func (l *Loaded) column(line, utf16Column int) int {
	column := 1
	for _, r := range lineOf(l.source, line) {
		if utf16Column <= 0 {
			break
		}
		utf16Column--
		if r > 0xffff {
			utf16Column--
		}
		column++
	}
	return column
}

// locate sets an error's line, column, snippet and stack from a goja stack.
func (l *Loaded) locate(e *scripts.Error, stack []goja.StackFrame) *scripts.Error {
	for i := range stack {
		line, column, ok := l.originalPosition(stack[i].Position())
		if !ok {
			continue
		}
		l.addFrame(e, stack[i].FuncName(), line, column)
	}
	return e
}

// frameText matches a frame in the text of an Error's stack property in goja:
// "at f (transform.ts:3:14(12))" or "at transform.ts:3:14(12)".
var frameText = regexp.MustCompile(`at (?:(\S+) \()?` + regexp.QuoteMeta(sourceName) + `:(\d{1,6}):(\d{1,6})\(`)

// locateText sets an error's line, column, snippet and stack from an Error's stack property,
// the only trace of a rejected promise. A script may have set it to any text.
func (l *Loaded) locateText(e *scripts.Error, stack string) *scripts.Error {
	for _, m := range frameText.FindAllStringSubmatch(stack[:min(len(stack), 4096)], maxFrames) {
		line, _ := strconv.Atoi(m[2])
		column, _ := strconv.Atoi(m[3])
		l.addFrame(e, m[1], line, l.column(line, column))
	}
	return e
}

func (l *Loaded) addFrame(e *scripts.Error, function string, line, column int) {
	if function == "" || function == "<anonymous>" {
		function = "(anonymous)"
	}
	if function == "transform_default" {
		function = "transform"
	}
	if e.Line == 0 {
		e.Location = scripts.Locate(l.source, line, column, 0, 0)
	}
	if len(e.Stack) < maxFrames {
		e.Stack = append(e.Stack, function+" ("+strconv.Itoa(line)+":"+strconv.Itoa(column)+")")
	}
}
