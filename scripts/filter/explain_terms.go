package filter

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"
)

// tracedTerm is a term of a filter that is being explained.
type tracedTerm struct {
	node      ast.Node
	source    string
	from, to  int // in runes
	depth     int
	condition bool // it is used as a condition
	path      path // nil unless it is a path known beforehand

	evaluated bool
	value     any
	failed    bool
	message   string
}

// termFinder collects the terms of a tree that has passed the linter.
type termFinder struct {
	runes  []rune
	tokens []lexer.Token
	spans  map[ast.Node]tokenRange
	terms  []*tracedTerm
}

// termsOf returns the terms of a filter, each before its parts.
func termsOf(source string, root ast.Node) []*tracedTerm {
	tokens, err := lexer.Lex(file.NewSource(source))
	if err != nil {
		panic(err) // it has been parsed before
	}
	f := &termFinder{runes: []rune(source), tokens: tokens, spans: map[ast.Node]tokenRange{}}
	f.term(root, 0, true)
	if !slices.ContainsFunc(f.terms, func(t *tracedTerm) bool { return t.node == root }) { // a filter that is a literal
		f.add(root, 0, true)
	}
	return f.terms
}

func (f *termFinder) add(n ast.Node, depth int, condition bool) *tracedTerm {
	at := f.span(n)
	t := &tracedTerm{node: n, depth: depth, condition: condition, from: f.tokens[at.first].From, to: f.tokens[at.last].To}
	t.source = oneLine(string(f.runes[t.from:t.to]))
	if r := []rune(t.source); len(r) > maxTermRunes {
		t.source = string(r[:maxTermRunes]) + "…"
	}
	f.terms = append(f.terms, t)
	return t
}

// oneLine replaces line breaks and the white space around them by single spaces.
func oneLine(s string) string {
	if !strings.Contains(s, "\n") {
		return s
	}
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " ")
}

// term adds the terms at n and below. Literals are not terms: their value is their source.
func (f *termFinder) term(n ast.Node, depth int, condition bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode, *ast.MemberNode, *ast.ChainNode:
		f.member(n, depth, condition)
	case *ast.UnaryNode:
		if isLiteral(n.Node) {
			return
		}
		not := n.Operator == "!" || n.Operator == "not"
		f.add(n, depth, condition || not)
		if b, ok := n.Node.(*ast.BinaryNode); ok && not && b.Location() == n.Location() { // a not in b
			f.term(b.Left, depth+1, false)
			f.term(b.Right, depth+1, false)
			return
		}
		f.term(n.Node, depth+1, not)
	case *ast.BinaryNode:
		logic := logicOf(n)
		f.add(n, depth, condition || logic != "" || comparing(n.Operator))
		for _, operand := range operands(n, logic) {
			f.term(operand, depth+1, logic != "")
		}
	case *ast.ConditionalNode:
		f.add(n, depth, condition)
		f.term(n.Cond, depth+1, true)
		f.term(n.Exp1, depth+1, condition)
		f.term(n.Exp2, depth+1, condition)
	case *ast.BuiltinNode:
		f.add(n, depth, condition)
		for _, arg := range n.Arguments {
			if _, inner := arg.(*ast.PredicateNode); !inner {
				f.term(arg, depth+1, false)
			}
		}
	case *ast.ArrayNode:
		for _, e := range n.Nodes {
			f.term(e, depth, false)
		}
	}
}

func (f *termFinder) member(n ast.Node, depth int, condition bool) {
	t := f.add(n, depth, condition)
	if to, ok := pathOf(n); ok {
		t.path = to
		return
	}
	for {
		chain, ok := n.(*ast.ChainNode)
		if !ok {
			break
		}
		n = chain.Node
	}
	if m, ok := n.(*ast.MemberNode); ok {
		if whole, ok := m.Node.(*ast.IdentifierNode); !ok || whole.Value != "data" { // all of data is of no use in an explanation
			f.term(m.Node, depth+1, false)
		}
		f.term(m.Property, depth+1, false)
		return
	}
	f.term(n, depth+1, false)
}

func isLiteral(n ast.Node) bool {
	switch n.(type) {
	case *ast.NilNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.StringNode:
		return true
	}
	return false
}

func comparing(operator string) bool {
	return comparisons[operator] != nil || operator == "contains" || operator == "in" || operator == "matches"
}

// logicOf returns "&&" or "||" for these operators in either spelling, otherwise "".
func logicOf(n *ast.BinaryNode) string {
	switch n.Operator {
	case "&&", "and":
		return "&&"
	case "||", "or":
		return "||"
	}
	return ""
}

// operands returns the two operands of n, or all of a chain: a && b && c has three.
func operands(n *ast.BinaryNode, logic string) []ast.Node {
	var all []ast.Node
	for _, side := range []ast.Node{n.Left, n.Right} {
		if b, ok := side.(*ast.BinaryNode); ok && logic != "" && logicOf(b) == logic {
			all = append(all, operands(b, logic)...)
		} else {
			all = append(all, side)
		}
	}
	return all
}

// tokenRange is the first and the last token of a node.
type tokenRange struct{ first, last int }

// span returns a node's range of tokens. expr records one token for each node, mostly its
// operator, so span includes the tokens of the nodes below, and then the other half of each
// bracket.
func (f *termFinder) span(n ast.Node) tokenRange {
	if r, known := f.spans[n]; known {
		return r
	}
	r := tokenRange{len(f.tokens) - 1, 0}
	if _, misplaced := n.(*ast.ConditionalNode); !misplaced { // expr records the token after it
		at, _ := slices.BinarySearchFunc(f.tokens, n.Location().From, func(t lexer.Token, from int) int { return t.From - from })
		r = tokenRange{at, at}
		if _, isCall := n.(*ast.BuiltinNode); isCall {
			r.last++ // its bracket
		}
	}
	for _, c := range children(n) {
		below := f.span(c)
		r.first, r.last = min(r.first, below.first), max(r.last, below.last)
	}
	r.last = min(r.last, len(f.tokens)-1)
	r.first, r.last = f.balance(r.first, r.last)
	f.spans[n] = r
	return r
}

// children returns the child nodes of a node that the linter allows.
func children(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.UnaryNode:
		return []ast.Node{n.Node}
	case *ast.BinaryNode:
		return []ast.Node{n.Left, n.Right}
	case *ast.ChainNode:
		return []ast.Node{n.Node}
	case *ast.MemberNode:
		return []ast.Node{n.Node, n.Property}
	case *ast.ConditionalNode:
		return []ast.Node{n.Cond, n.Exp1, n.Exp2}
	case *ast.ArrayNode:
		return n.Nodes
	case *ast.BuiltinNode:
		return n.Arguments
	case *ast.PredicateNode:
		return []ast.Node{n.Node}
	}
	return nil
}

// balance widens a range of tokens until each bracket in it has its other half.
func (f *termFinder) balance(first, last int) (int, int) {
	open := 0
	for i := first; i <= last; i++ {
		switch {
		case f.tokens[i].Is(lexer.Bracket, "(", "[", "{"):
			open++
		case f.tokens[i].Is(lexer.Bracket):
			open--
		}
		for depth := 0; open < 0 && first > 0; {
			first--
			switch {
			case f.tokens[first].Is(lexer.Bracket, ")", "]", "}"):
				depth++
			case f.tokens[first].Is(lexer.Bracket) && depth == 0:
				open++
			case f.tokens[first].Is(lexer.Bracket):
				depth--
			}
		}
	}
	for ; open > 0 && last+1 < len(f.tokens); last++ {
		switch {
		case f.tokens[last+1].Is(lexer.Bracket, "(", "[", "{"):
			open++
		case f.tokens[last+1].Is(lexer.Bracket):
			open--
		}
	}
	return first, last
}
