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

// modules maps the modules that a transform can import to their exports, which are globals:
// switchhook exports them all, switchhook:crypto the members of crypto.
var modules = map[string][]string{
	"switchhook": {"drop", "crypto", "base64", "hex", "btoa", "atob", "URL", "URLSearchParams",
		"TextEncoder", "TextDecoder", "structuredClone", "formatDate"},
	"switchhook:crypto": {"sha256", "hmac"},
	"switchhook:base64": {"encode", "decode"},
	"switchhook:hex":    {"encode", "decode"},
}

// require implements the require calls to which esbuild compiles imports. It returns the
// module's exports with the current values of the globals.
func (r *run) require(call goja.FunctionCall) goja.Value {
	name := call.Argument(0).String()
	exports, ok := modules[name]
	if !ok {
		panic(r.vm.NewTypeError("%s", importMessage(name)))
	}
	from, module := r.vm.GlobalObject(), r.vm.NewObject()
	if _, group, ok := strings.Cut(name, ":"); ok {
		if from, ok = r.vm.Get(group).(*goja.Object); !ok {
			return module // the script has removed it
		}
	}
	for _, export := range exports {
		if v := from.Get(export); v != nil {
			_ = module.Set(export, v) // a new object accepts any property
		}
	}
	return module
}

func importMessage(name string) string {
	if name == "switchhook" || strings.HasPrefix(name, "switchhook:") {
		return fmt.Sprintf("import of %q: there is no such helper module; the modules are %s", name, strings.Join(slices.Sorted(maps.Keys(modules)), ", "))
	}
	return fmt.Sprintf("import of %q: a transform can't import modules but %s", name, strings.Join(slices.Sorted(maps.Keys(modules)), ", "))
}

// imports finds imports of modules and names that do not exist.
type imports struct {
	variables map[string]string // module names by the variable that holds the module
}

// call checks a call of require.
func (im *imports) call(n *ast.CallExpression) *finding {
	if name, ok := required(n); ok && modules[name] == nil {
		return &finding{n.Callee.(*ast.Identifier).Idx, scripts.PhaseCompile, importMessage(name)}
	}
	return nil
}

// binding records a variable that esbuild declared for an import: import_x = require("x"), or
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

// member checks a use of an imported name.
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
		message += "; it exports " + strings.Join(names, ", ")
	}
	return &finding{variable.Idx, scripts.PhaseCompile, message}
}

// required returns the module name in a call of require.
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

// bindings are collected before uses are checked: a function may precede the import that it
// uses.
func (im *imports) collect(prog *ast.Program) {
	visit(reflect.ValueOf(prog.Body), func(node any) bool {
		if b, ok := node.(*ast.Binding); ok {
			im.binding(b)
		}
		return true
	})
}
