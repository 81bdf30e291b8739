package transform

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"switchhook/scripts"
	"switchhook/scripts/suggest"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
)

// modules are what a transform can import, and the names each exports. They are other
// ways to the globals: switchhook has them all, switchhook:crypto the members of crypto.
var modules = map[string][]string{
	"switchhook": {"drop", "crypto", "base64", "hex", "btoa", "atob", "URL", "URLSearchParams",
		"TextEncoder", "TextDecoder", "structuredClone", "formatDate"},
	"switchhook:crypto": {"sha256", "hmac"},
	"switchhook:base64": {"encode", "decode"},
	"switchhook:hex":    {"encode", "decode"},
}

// require is what esbuild makes of an import. It gives the module's names as they are
// among the globals at that time.
func (r *run) require(call goja.FunctionCall) goja.Value {
	name := call.Argument(0).String()
	exports, ok := modules[name]
	if !ok {
		panic(r.vm.NewTypeError("%s", importMessage(name)))
	}
	from, module := r.vm.GlobalObject(), r.vm.NewObject()
	if _, group, ok := strings.Cut(name, ":"); ok {
		if from, ok = r.vm.Get(group).(*goja.Object); !ok {
			return module // the script has taken it away
		}
	}
	for _, export := range exports {
		if v := from.Get(export); v != nil {
			_ = module.Set(export, v) // a new object takes any property
		}
	}
	return module
}

func importMessage(name string) string {
	if name == "switchhook" || strings.HasPrefix(name, "switchhook:") {
		return fmt.Sprintf("import of %q: there is no such helper module; there are %s", name, strings.Join(slices.Sorted(maps.Keys(modules)), ", "))
	}
	return fmt.Sprintf("import of %q: a transform can't import modules but %s", name, strings.Join(slices.Sorted(maps.Keys(modules)), ", "))
}

// imports finds what a program imports that is not there.
type imports struct {
	variables map[string]string // a variable that holds a module, and the module's name
}

// call looks at a call of require.
func (im *imports) call(n *ast.CallExpression) *finding {
	if name, ok := required(n); ok && modules[name] == nil {
		return &finding{n.Callee.(*ast.Identifier).Idx, scripts.PhaseCompile, importMessage(name)}
	}
	return nil
}

// binding notes a variable that esbuild made for an import: import_x = require("x"), or
// with __toESM around it.
func (im *imports) binding(n *ast.Binding) {
	target, ok := n.Target.(*ast.Identifier)
	call, isCall := n.Initializer.(*ast.CallExpression)
	if !ok || !isCall {
		return
	}
	if callee, ok := call.Callee.(*ast.Identifier); ok && callee.Name == "__toESM" && len(call.ArgumentList) > 0 {
		if call, ok = call.ArgumentList[0].(*ast.CallExpression); !ok {
			return
		}
	}
	if name, ok := required(call); ok {
		if im.variables == nil {
			im.variables = make(map[string]string)
		}
		im.variables[string(target.Name)] = name
	}
}

// member looks at a use of what was imported.
func (im *imports) member(n *ast.DotExpression) *finding {
	variable, ok := n.Left.(*ast.Identifier)
	if !ok {
		return nil
	}
	module := im.variables[string(variable.Name)]
	names, export := modules[module], string(n.Identifier.Name)
	if module == "" || names == nil || export == "default" || slices.Contains(names, export) {
		return nil
	}
	message := fmt.Sprintf("%q has no export %q", module, export)
	if meant := suggest.Closest(export, names); meant != "" {
		message += fmt.Sprintf(": did you mean %q?", meant)
	} else {
		message += "; there are " + strings.Join(names, ", ")
	}
	return &finding{variable.Idx, scripts.PhaseCompile, message}
}

// required returns the name that a call of require asks for.
func required(n *ast.CallExpression) (name string, ok bool) {
	if callee, ok := n.Callee.(*ast.Identifier); !ok || callee.Name != "require" || len(n.ArgumentList) == 0 {
		return "", false
	}
	text, ok := n.ArgumentList[0].(*ast.StringLiteral)
	if !ok {
		return "", false
	}
	return text.Value.String(), true
}

// bindings are collected before the uses are looked at: a function may stand above the
// import that it uses.
func (im *imports) collect(prog *ast.Program) {
	visit(reflect.ValueOf(prog.Body), func(node any) bool {
		if b, ok := node.(*ast.Binding); ok {
			im.binding(b)
		}
		return true
	})
}
