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

// Explanation is a filter's verdict on an event, with the value of each of its terms.
type Explanation struct {
	Matched bool           `json:"matched"`
	Error   *scripts.Error `json:"error,omitempty"` // why there is no verdict; then Matched is false
	// Terms are the parts of the filter as its author wrote them: each before its own
	// parts, the first one is the whole. The evaluations of a predicate such as any for each
	// element are not among them.
	Terms []Term `json:"terms"`
}

// Term is one part of a filter: a condition, a comparison, a function call, a path.
type Term struct {
	Source string    `json:"source"` // as written, with line breaks as spaces; 500 characters at most
	Depth  int       `json:"depth"`  // 0 is the whole filter; operands of one chain of && or || have the same depth
	State  TermState `json:"state"`
	// Value is nil, a bool, a number, a text of at most 200 characters, or a small list
	// or object as json.RawMessage. It is nil if the term was not evaluated.
	Value   any    `json:"value"`
	Summary string `json:"summary,omitempty"` // a description of a value that is too large for Value
	Missing bool   `json:"missing,omitempty"` // a path at which the event has no value
	Result  *bool  `json:"result,omitempty"`  // of an evaluated condition: its result
	Error   string `json:"error,omitempty"`   // of the innermost term that failed
}

// TermState is the outcome of a term's evaluation.
type TermState string

// The states of a term.
const (
	TermEvaluated TermState = "evaluated"
	TermSkipped   TermState = "skipped" // not needed for the verdict, or not reached after an error
	TermFailed    TermState = "failed"  // it failed itself, or a part of it did
)

// Explain evaluates the filter as Match does, with the same limits and the same verdict,
// and records the value of each of its terms. It compiles the filter again, so it is not for
// the hot path.
func (f *Filter) Explain(in *Input) (ex Explanation) {
	var terms []*tracedTerm
	defer func() {
		if r := recover(); r != nil {
			ex = Explanation{Error: f.runError(fmt.Errorf("filter failed: %v", r)), Terms: resultTerms(terms, in)}
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
func resultTerms(terms []*tracedTerm, in *Input) []Term {
	list := make([]Term, len(terms))
	for i, t := range terms {
		term := Term{Source: t.source, Depth: t.depth, State: TermSkipped, Error: t.message}
		switch {
		case t.failed:
			term.State = TermFailed
		case t.evaluated:
			term.State = TermEvaluated
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
