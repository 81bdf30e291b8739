package transform

import (
	"reflect"
	"strings"

	"switchhook/scripts"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
)

// finding is a construct in a parsed program that goja would run, but not as its author
// intended.
type finding struct {
	idx     file.Idx
	phase   scripts.Phase
	message string
}

// lint finds imports (which esbuild prints as require calls) and regular expressions that
// goja accepts and never matches.
func lint(prog *ast.Program) *finding {
	var (
		found *finding
		im    imports
	)
	im.collect(prog)
	visit(reflect.ValueOf(prog.Body), func(node any) bool {
		switch n := node.(type) {
		case *ast.CallExpression:
			found = im.call(n)
		case *ast.DotExpression:
			found = im.member(n)
		case *ast.RegExpLiteral:
			if p := strings.ToLower(n.Pattern); strings.Contains(p, `\p{`) && strings.ContainsAny(n.Flags, "uv") {
				found = &finding{n.Idx, scripts.PhaseLint, `regular expressions with \p{…} are not supported: list the characters instead`}
			}
		}
		return found == nil
	})
	return found
}

// visit calls f for every pointer to a node below v, outermost first, until f returns false.
// goja's ast has no walker.
func visit(v reflect.Value, f func(node any) bool) bool {
	switch v.Kind() {
	case reflect.Interface:
		return v.IsNil() || visit(v.Elem(), f)
	case reflect.Pointer:
		if v.IsNil() || v.Type() == fileType {
			return true
		}
		return f(v.Interface()) && visit(v.Elem(), f)
	case reflect.Struct:
		for i := range v.NumField() {
			// DeclarationList repeats declarations of the body.
			if t := v.Type().Field(i); !t.IsExported() || t.Name == "DeclarationList" {
				continue
			}
			if !visit(v.Field(i), f) {
				return false
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 || v.Type().Elem().Kind() == reflect.Uint16 {
			return true
		}
		for i := range v.Len() {
			if !visit(v.Index(i), f) {
				return false
			}
		}
	}
	return true
}

var fileType = reflect.TypeFor[*file.File]()
