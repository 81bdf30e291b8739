package transform

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"switchhook/scripts"

	"github.com/evanw/esbuild/pkg/api"
)

// compilerVersion is part of every program's hash. Raise it when the same source compiles to
// other code.
const compilerVersion = "2 esbuild 0.28.2"

// maxNesting is the maximum nesting of brackets in a source. The parsers recurse, and a Go
// stack overflow ends the process.
const maxNesting = 256

// sourceName is the file name of the author's source in esbuild, which names an anonymous
// default export after it (transform_default).
const sourceName = "transform.ts"

const (
	// The wrapper surrounds esbuild's output for the parsed source, so the author's text
	// can't close it.
	banner = `(function (module, exports, require) {"use strict";`
	footer = `;return %s;
})
`
	// A program that exports one function and does not use module, exports and require
	// returns the function without another call.
	directBanner = `(function () {"use strict";`
	directFooter = `
})()
`

	anyExport = `typeof module.exports === "function" ? module.exports : ` +
		`module.exports.default || module.exports.transform || (typeof transform === "function" ? transform : undefined)`
)

// Hash returns the Program.Hash of source.
func Hash(source string) string {
	h := sha256.Sum256([]byte(compilerVersion + "\x00" + source))
	return hex.EncodeToString(h[:])
}

// Check refuses, without parsing it, a source that is too large or too deeply nested. It is
// cheap and safe in any process. The error is a *scripts.Error.
func Check(source string, limits scripts.Limits) error {
	if len(source) > limits.Source {
		return limits.SourceError()
	}
	if !utf8.ValidString(source) {
		return &scripts.Error{Phase: scripts.PhaseLint, Message: "source is not valid UTF-8"}
	}
	depth := 0
	for i := range len(source) {
		switch source[i] {
		case '(', '[', '{':
			if depth++; depth > maxNesting {
				line, column := lineColumn(source, i)
				return errorAt(scripts.PhaseLint, fmt.Sprintf("source nests deeper than %d brackets", maxNesting), source, line, column)
			}
		case ')', ']', '}':
			depth = max(0, depth-1)
		}
	}
	return nil
}

// Compile compiles an author's JavaScript or TypeScript and runs its top level once to check
// that it defines a transform. The error is a *scripts.Error with the position in the
// author's source. watch is as in Run: without it, an endless top level is not interrupted.
func Compile(source string, limits scripts.Limits, watch func(interrupt func())) (*scripts.Program, error) {
	if err := Check(source, limits); err != nil {
		return nil, err
	}
	out := api.Transform(source, api.TransformOptions{
		Loader:         api.LoaderTS, // a superset of JavaScript
		Format:         api.FormatCommonJS,
		Platform:       api.PlatformNeutral,
		Target:         api.ES2022,
		Supported:      lowered,
		Sourcemap:      api.SourceMapExternal,
		SourcesContent: api.SourcesContentExclude,
		Sourcefile:     sourceName,
		LegalComments:  api.LegalCommentsNone,
		TreeShaking:    api.TreeShakingFalse,
		TsconfigRaw:    "{}",
		Banner:         banner,
		LogLevel:       api.LogLevelSilent,
	})
	if len(out.Errors) > 0 {
		return nil, syntaxError(source, out.Errors)
	}
	p := &scripts.Program{Hash: Hash(source), Source: source, Code: finish(string(out.Code)), Map: out.Map}
	l, err := Load(p)
	if err != nil {
		return nil, err
	}
	if err := l.check(limits, watch); err != nil {
		return nil, err
	}
	return p, nil
}

// lowered lists the features of ES2022 that goja lacks and esbuild rewrites.
var lowered = map[string]bool{
	"async-generator": false,
	"for-await":       false,
	"dynamic-import":  false, // becomes a require, which lint reports
}

// syntaxError returns the errors of esbuild as one.
func syntaxError(source string, list []api.Message) *scripts.Error {
	e := &scripts.Error{Phase: scripts.PhaseCompile, Message: list[0].Text, Location: messageLocation(source, list[0].Location)}
	for _, m := range list[1:min(len(list), scripts.MaxDiagnostics)] {
		e.Others = append(e.Others, scripts.Diagnostic{Severity: scripts.SeverityError, Message: m.Text, Location: messageLocation(source, m.Location)})
	}
	return e
}

// messageLocation returns the place that esbuild names: a line from 1, a column from 0 and a length,
// both in bytes of that line.
func messageLocation(source string, at *api.Location) scripts.Location {
	if at == nil {
		return scripts.Location{}
	}
	line := lineOf(source, at.Line)
	from := min(len(line), max(0, at.Column))
	to := min(len(line), from+max(0, at.Length))
	column := 1 + utf8.RuneCountInString(line[:from])
	return scripts.Locate(source, at.Line, column, at.Line, column+utf8.RuneCountInString(line[from:to]))
}

// exportPreamble matches esbuild's code for an ES module that only exports: helpers, then the
// export table. A run would spend 3 µs in it to get one function.
var (
	exportTable  = regexp.MustCompile(`(?s)\nvar transform_exports = \{\};\n__export\(transform_exports, \{\n(.*?)\n\}\);\nmodule\.exports = __toCommonJS\(transform_exports\);\n`)
	exportedName = regexp.MustCompile(`(?m)^  (default|transform): \(\) => ([\w$]+),?$`)
	helperName   = regexp.MustCompile(`(?m)^var (__\w+) = `)
)

var exportHelpers = map[string]bool{
	"__defProp": true, "__getOwnPropDesc": true, "__getOwnPropNames": true,
	"__hasOwnProp": true, "__export": true, "__copyProps": true, "__toCommonJS": true,
}

// finish closes the wrapper so that it returns the transform. If esbuild put only export
// helpers above the author's code, they are blanked (keeping the lines, to which the source
// map refers) and the function is returned by its name.
func finish(code string) string {
	at := exportTable.FindStringSubmatchIndex(code)
	if at == nil || !strings.HasPrefix(code, banner) {
		return code + fmt.Sprintf(footer, anyExport)
	}
	head := code[len(banner):at[0]]
	for _, m := range helperName.FindAllStringSubmatch(head, -1) {
		if !exportHelpers[m[1]] {
			return code + fmt.Sprintf(footer, anyExport)
		}
	}
	names := map[string]string{}
	for _, m := range exportedName.FindAllStringSubmatch(code[at[2]:at[3]], -1) {
		names[m[1]] = m[2]
	}
	name := names["default"]
	if name == "" {
		name = names["transform"]
	}
	if name == "" {
		return code + fmt.Sprintf(footer, anyExport)
	}
	blank := strings.Repeat("\n", strings.Count(code[:at[1]], "\n"))
	if usesModules(code[at[1]:]) {
		return banner + blank + code[at[1]:] + fmt.Sprintf(footer, name)
	}
	return directBanner + blank + code[at[1]:] + ";return " + name + ";" + directFooter
}

func usesModules(code string) bool {
	return strings.Contains(code, "module") || strings.Contains(code, "exports") || strings.Contains(code, "require")
}
