package transform

import (
	"errors"
	"strings"
	"time"

	"switchhook/scripts"

	"github.com/dop251/goja"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
)

// Loaded is a program ready to run. It holds no state of a run and is safe for concurrent use.
type Loaded struct {
	prog   *goja.Program
	source string // the author's
	uses   uses
	direct bool // the program returns the transform itself, not a wrapper to call
}

// uses records which features that are costly to set up a program may need: those whose
// names its code mentions.
type uses struct {
	helpers   []helper
	modules   bool // module, exports or require
	toJSON    bool // it may change the encoding of values
	stringify bool // it encodes JSON itself, possibly of BigInts
}

// mapMarker makes goja's parser load the source map. It names no file: the loader in Load
// always returns the program's map.
const mapMarker = "\n//# sourceMappingURL=map"

// Load parses a program's code and compiles it to goja's. The error is a
// *scripts.Error.
func Load(p *scripts.Program) (*Loaded, error) {
	l := &Loaded{source: p.Source, direct: strings.HasSuffix(p.Code, directFooter)}
	tree, err := parser.ParseFile(nil, "compiled.js", p.Code+mapMarker, 0,
		parser.WithSourceMapLoader(func(string) ([]byte, error) { return p.Map, nil }))
	if err != nil {
		return nil, l.parseError(err)
	}
	if f := lint(tree); f != nil {
		e := &scripts.Error{Phase: f.phase, Message: f.message, Location: l.locationOf(tree.File.Position(int(f.idx) - tree.File.Base()))}
		return nil, e
	}
	findLineEnds(tree)
	if l.prog, err = goja.CompileAST(tree, false); err != nil {
		return nil, l.parseError(err)
	}
	body := strings.TrimPrefix(strings.TrimPrefix(p.Code, banner), directBanner)
	has := func(word string) bool { return strings.Contains(body, word) }
	l.uses = uses{
		modules:   usesModules(body),
		toJSON:    has("toJSON") || has("URL"), // URL defines one
		stringify: has("stringify"),
	}
	all := has(`__toESM(require("switchhook"))`) // names of the module may be computed
	for _, h := range helpers {
		if all || has(h.name) {
			l.uses.helpers = append(l.uses.helpers, h)
		}
	}
	return l, nil
}

// parseError returns the error for code that esbuild accepts and goja does not.
func (l *Loaded) parseError(err error) *scripts.Error {
	e := &scripts.Error{Phase: scripts.PhaseCompile, Message: err.Error()}
	var list parser.ErrorList
	var syntax *goja.CompilerSyntaxError
	switch {
	case errors.As(err, &list) && len(list) > 0:
		e.Message, e.Location = list[0].Message, l.locationOf(list[0].Position)
		for _, other := range list[1:min(len(list), scripts.MaxDiagnostics)] {
			e.Others = append(e.Others, scripts.Diagnostic{Severity: scripts.SeverityError, Message: other.Message, Location: l.locationOf(other.Position)})
		}
	case errors.As(err, &syntax):
		e.Message = syntax.Message
		if syntax.File != nil {
			e.Location = l.locationOf(syntax.File.Position(syntax.Offset))
		}
	}
	return e
}

// locationOf returns the place in the author's source of a position in the compiled code; zero if
// the author did not write it.
func (l *Loaded) locationOf(p file.Position) scripts.Location {
	line, column, ok := l.originalPosition(p)
	if !ok {
		return scripts.Location{}
	}
	return scripts.Locate(l.source, line, column, 0, 0)
}

// check runs the top level once and checks that it defines a transform.
func (l *Loaded) check(limits scripts.Limits, watch func(interrupt func())) (err error) {
	r := newRun(l, &scripts.Event{Time: time.Unix(0, 0), Received: time.Unix(0, 0)}, limits)
	defer r.guardMatches()()
	defer r.recoverInto(&err)
	if watch != nil {
		watch(r.interrupt)
	}
	if _, err := r.define(); err != nil {
		var se *scripts.Error
		if errors.As(err, &se) && se.Phase == scripts.PhaseRun {
			se.Phase = scripts.PhaseCompile
		}
		return err
	}
	return nil
}
