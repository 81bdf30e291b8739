package filter

import (
	"errors"
	"fmt"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"switchhook/scripts"
)

// Explain evaluates the filter as Match does, with the same limits and the same verdict,
// and records the value of each of its terms. It compiles the filter again, so it is not for
// the hot path.
func (f *Filter) Explain(in *Input) (ex scripts.Explanation) {
	var terms []*tracedTerm
	defer func() {
		if r := recover(); r != nil {
			ex = scripts.Explanation{Error: f.runError(fmt.Errorf("filter failed: %v", r)), Terms: resultTerms(terms, in)}
		}
	}()
	text, _ := withoutBigInts(f.source)
	tree, err := parser.ParseWithConfig(text, typedConfig(&shape{}))
	if err != nil {
		panic(err) // it has been parsed before
	}
	terms = termsOf(f.source, tree.Node)
	if ex.Error = f.prepare(in); ex.Error != nil {
		markFailed(terms[:1], ex.Error, 0) // the event itself can't be read
	} else if ex.Matched, err = f.trace(in, tree, terms); err != nil {
		ex.Error = f.runError(err)
		markFailed(terms, ex.Error, errorOffset(err))
	}
	ex.Terms = resultTerms(terms, in)
	return ex
}

// errorOffset returns the position in the source at which a run failed, in runes.
func errorOffset(err error) int {
	if place := (*file.Error)(nil); errors.As(err, &place) {
		return place.From
	}
	return 0
}

// trace runs the tree with a recorder around each term.
func (f *Filter) trace(in *Input, tree *parser.Tree, terms []*tracedTerm) (bool, error) {
	byNode := make(map[ast.Node]*tracedTerm, len(terms))
	for _, t := range terms {
		byNode[t.node] = t
	}
	_, literals := withoutBigInts(f.source)
	p := &rewriter{found: map[string]path{}, literals: literals, observe: func(n, out ast.Node) ast.Node {
		t := byNode[n]
		if t == nil {
			return out
		}
		return call(n, func(v any) any { t.value, t.evaluated = v, true; return v }, out)
	}}
	tree.Node = p.boolean(tree.Node)
	config := flatConfig(p.found)
	if err := checkPatched(f.source, tree, config); err != nil {
		return false, err
	}
	program, err := compiler.Compile(tree, config)
	if err != nil {
		return false, err
	}
	in.budgetLeft = budget
	out, err := in.vm.Run(program, in.env)
	in.vm = vm.VM{} // release the recorders
	if err != nil {
		return false, err
	}
	ok, _ := out.(bool)
	return ok, nil
}

// markFailed marks the terms that contain the position of an error and have no value; the
// innermost of them is the one that failed.
func markFailed(terms []*tracedTerm, err *scripts.Error, at int) {
	var innermost *tracedTerm
	for i, t := range terms {
		if t.evaluated || i > 0 && (at < t.from || at >= t.to) {
			continue
		}
		t.failed = true
		if innermost == nil || t.depth >= innermost.depth {
			innermost = t
		}
	}
	if innermost != nil {
		innermost.message = err.Message
	}
}

// resultTerms converts the traced terms into those of an Explanation.
func resultTerms(terms []*tracedTerm, in *Input) []scripts.Term {
	list := make([]scripts.Term, len(terms))
	for i, t := range terms {
		term := scripts.Term{Source: t.source, Depth: t.depth, State: scripts.TermSkipped, Error: t.message}
		switch {
		case t.failed:
			term.State = scripts.TermFailed
		case t.evaluated:
			term.State = scripts.TermEvaluated
			term.Value, term.Summary = displayValue(t.value)
			term.Missing = t.value == nil && t.path != nil && in.missing(t.path)
			if verdict, isBool := t.value.(bool); t.condition && (isBool || t.value == nil) {
				term.Result = &verdict
			}
		}
		list[i] = term
	}
	return list
}
