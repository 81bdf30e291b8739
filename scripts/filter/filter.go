// Package filter evaluates the expressions (github.com/expr-lang/expr) that decide
// which events a subscription gets: data.amount > 100 && type == "order.created".
//
// A filter is untrusted code in the router's process, and expr alone does not make it
// harmless. So its text is bounded before expr's parser sees it (lint.go), only listed
// constructs and functions are allowed (allowlist.go), every operator is replaced by one of
// ours that handles nil and counts its work (rewrite.go, operators.go, cost.go), and values
// are read from the payload one by one, on demand (path.go, input.go).
//
// The package knows events and JSON, but no subscriptions, storage or HTTP.
package filter

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"switchhook/scripts"
)

// Filter is a compiled expression. It is immutable and safe for concurrent use, if each
// goroutine has its own Input.
type Filter struct {
	source  string
	program *vm.Program
	keys    []string // all names it reads in the flat environment
	names   []path   // of these: values of the event itself, like type and id
	headers []string // single headers
	data    *trie    // payload paths; nil if it reads none
	paths   []string
	loops   bool // it has predicates
}

// Compile checks and compiles a filter. With the JSON Schemas of its event types, misspelt
// fields and comparisons that cannot hold are errors; without them, data may be anything.
// The error is a *scripts.Error with its position in the source.
func Compile(source string, schemas ...[]byte) (f *Filter, err error) {
	defer func() {
		if r := recover(); r != nil { // a gap in our checks or in expr must not stop the router
			f, err = nil, &scripts.Error{Phase: scripts.PhaseCompile, Message: fmt.Sprintf("the filter can't be compiled: %v", r)}
		}
	}()
	tree, config, err := parse(source, schemas)
	if err != nil {
		return nil, err
	}
	if err := checkTypes(source, tree, config); err != nil {
		return nil, err
	}
	return build(source, tree)
}

// parse parses a source and refuses constructs that are not allowed.
func parse(source string, schemas [][]byte) (*parser.Tree, *conf.Config, error) {
	if err := lintText(source); err != nil {
		return nil, nil, err
	}
	payload, err := payloadShape(schemas)
	if err != nil {
		return nil, nil, err
	}
	config := typedConfig(payload)
	text, _ := withoutBigInts(source)
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		return nil, nil, parseError(source, err)
	}
	return tree, config, lintTree(source, tree.Node)
}

// build turns a checked tree into a program over the flat environment.
func build(source string, tree *parser.Tree) (*Filter, error) {
	return assemble(source, tree, (*rewriter).boolean, checkPatched)
}

// assemble turns a checked tree of a filter or key into a program: rewrite converts the root
// to the required kind of value, and check types the rewritten tree.
func assemble(source string, tree *parser.Tree, rewrite func(*rewriter, ast.Node) ast.Node, check func(string, *parser.Tree, *conf.Config) error) (*Filter, error) {
	f := &Filter{source: source}
	_, literals := withoutBigInts(source)
	p := &rewriter{found: map[string]path{}, literals: literals}
	tree.Node = rewrite(p, tree.Node)
	config := flatConfig(p.found)
	if err := check(source, tree, config); err != nil {
		return nil, err
	}
	program, err := compiler.Compile(tree, config)
	if err != nil {
		return nil, &scripts.Error{Phase: scripts.PhaseCompile, Message: err.Error()}
	}
	f.program, f.loops = program, p.loops
	for key, at := range p.found {
		f.addPath(key, at)
	}
	slices.Sort(f.keys)
	slices.Sort(f.paths)
	return f, nil
}

// addPath records one path that the filter reads.
func (f *Filter) addPath(key string, at path) {
	f.keys = append(f.keys, key)
	switch {
	case at[0].name == "data":
		f.paths = append(f.paths, key)
		if f.data == nil {
			f.data = &trie{}
		}
		f.data.add(at[1:], key)
	case len(at) == 2:
		f.headers = append(f.headers, at[1].name)
	default:
		f.names = append(f.names, at)
	}
}

// Source returns the text that the filter was compiled from.
func (f *Filter) Source() string { return f.source }

// Paths returns the payload paths that the filter reads, sorted: "data.amount".
func (f *Filter) Paths() []string { return slices.Clone(f.paths) }

// Match reports whether the event passes the filter. On an error, a *scripts.Error, the event
// counts as not matching.
func (f *Filter) Match(in *Input) (ok bool, err error) {
	out, err := f.run(in)
	ok, _ = out.(bool)
	return ok, err
}

// run returns the value of the expression; the error is a *scripts.Error.
func (f *Filter) run(in *Input) (out any, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, f.runError(fmt.Errorf("filter failed: %v", r))
		}
	}()
	if err := f.prepare(in); err != nil {
		return nil, err
	}
	in.budgetLeft, in.used = budget, in.used || f.loops
	out, err = in.vm.Run(f.program, in.env)
	if f.loops && in.budgetLeft < budget/2 {
		in.vm = vm.VM{} // v1.17.8 keeps a scope for each inner predicate that ran
	}
	if err != nil {
		return nil, f.runError(err)
	}
	return out, nil
}

// prepare looks up the values that the filter reads and that are not in the Input yet.
func (f *Filter) prepare(in *Input) *scripts.Error {
	for _, key := range f.keys {
		v, have := in.env[key]
		if !have {
			if err := in.fill(f); err != nil {
				return f.runError(err)
			}
			v = in.env[key]
		}
		if _, bad := v.(unreadable); bad {
			return f.runError(faultf("%s lies in an object with too many escaped member names: too large for a filter", key))
		}
	}
	return nil
}

func (f *Filter) runError(err error) *scripts.Error {
	e := &scripts.Error{Phase: scripts.PhaseRun, Message: err.Error()}
	if at := (*file.Error)(nil); errors.As(err, &at) {
		e.Message = at.Message
		e.Location = scripts.LocateOffsets(f.source, at.From, at.To)
	}
	return e
}

// refuse returns an error at the position of a node.
func refuse(phase scripts.Phase, source string, n ast.Node, format string, args ...any) *scripts.Error {
	return refuseAt(phase, source, n.Location(), format, args...)
}

// refuseAt returns an error at a place that is given as expr counts: in runes from the start.
func refuseAt(phase scripts.Phase, source string, at file.Location, format string, args ...any) *scripts.Error {
	return &scripts.Error{Phase: phase, Message: fmt.Sprintf(format, args...), Location: scripts.LocateOffsets(source, at.From, at.To)}
}

// wholeOf returns the place of a whole source.
func wholeOf(source string) file.Location { return file.Location{To: utf8.RuneCountInString(source)} }
