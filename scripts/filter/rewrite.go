package filter

import (
	"cmp"
	"fmt"

	"github.com/expr-lang/expr/ast"
)

// rewriter rewrites a checked tree for expr's VM:
//
//   - data.customer.country becomes one name in a flat environment, since a map lookup
//     for each step of the path would cost more than the rest of the filter;
//   - operators and functions become calls of ours (operators.go, cost.go);
//   - each predicate is charged for its iterations.
//
// It panics on constructs that the linter should have refused.
type rewriter struct {
	found    map[string]path // the names that the tree now reads
	literals map[int]bigInt  // by position: the integers that FloatNodes stand for
	loops    bool
	observe  func(old, rewritten ast.Node) ast.Node // may replace each rewritten node outside predicates; may be nil
}

// value rewrites a node whose value may be of any kind.
func (p *rewriter) value(n ast.Node) ast.Node {
	out := p.rewrite(n)
	if p.observe != nil {
		out = p.observe(n, out)
	}
	return out
}

func (p *rewriter) rewrite(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.NilNode, *ast.BoolNode, *ast.StringNode, *ast.PointerNode:
		return n
	case *ast.FloatNode:
		if i, ok := p.literals[n.Location().From]; ok {
			return at(n, &ast.ConstantNode{Value: i})
		}
		return n
	case *ast.IntegerNode:
		return at(n, &ast.ConstantNode{Value: int64(n.Value)})
	case *ast.IdentifierNode, *ast.MemberNode, *ast.ChainNode:
		return p.member(n)
	case *ast.UnaryNode:
		return p.unary(n)
	case *ast.BinaryNode:
		return p.binary(n)
	case *ast.ConditionalNode:
		return at(n, &ast.ConditionalNode{Ternary: true, Cond: p.boolean(n.Cond), Exp1: p.value(n.Exp1), Exp2: p.value(n.Exp2)})
	case *ast.ArrayNode:
		return p.array(n)
	case *ast.BuiltinNode:
		return p.builtin(n)
	}
	panic(fmt.Sprintf("no rule for %T", n))
}

// boolean rewrites a node whose value must be true or false.
func (p *rewriter) boolean(n ast.Node) ast.Node {
	out := p.value(n)
	if isBoolean(out) {
		return out
	}
	return call(n, asBool, out)
}

// isBoolean reports whether a rewritten node can only be true or false.
func isBoolean(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BoolNode:
		return true
	case *ast.UnaryNode:
		return n.Operator == "not"
	case *ast.BinaryNode:
		return n.Operator != "??"
	case *ast.ConditionalNode:
		return isBoolean(n.Exp1) && isBoolean(n.Exp2)
	case *ast.BuiltinNode:
		switch n.Name {
		case "any", "all", "none", "one":
			return true
		}
	case *ast.CallNode:
		return booleanCall(n.Callee)
	}
	return false
}

func booleanCall(callee ast.Node) bool {
	switch c := callee.(type) {
	case *ast.ConstantNode:
		switch c.Value.(type) {
		case func(any) bool, func(any, any) bool:
			return true
		}
	case *ast.IdentifierNode:
		return meteredTypes[c.Value].String() == "func(interface {}, interface {}) bool"
	}
	return false
}

// member rewrites a chain of members: as one name if the path is known, else step by step.
func (p *rewriter) member(n ast.Node) ast.Node {
	if to, ok := pathOf(n); ok && (to[0].name == "data" || len(to) == 1 || len(to) == 2 && to[0].name == "headers" && !to[1].isIndex) {
		key := to.String()
		p.found[key] = to
		return at(n, &ast.IdentifierNode{Value: key})
	}
	switch n := n.(type) {
	case *ast.ChainNode:
		return p.value(n.Node)
	case *ast.MemberNode:
		return call(n.Property, "member", p.value(n.Node), p.value(n.Property))
	}
	panic(fmt.Sprintf("no rule for %T", n))
}

func (p *rewriter) unary(n *ast.UnaryNode) ast.Node {
	switch n.Operator {
	case "!", "not":
		return at(n, &ast.UnaryNode{Operator: "not", Node: p.boolean(n.Node)})
	case "+":
		return call(n, plus, p.value(n.Node))
	}
	if i, ok := integer(n); ok {
		return at(n, &ast.ConstantNode{Value: int64(i)})
	}
	if f, ok := n.Node.(*ast.FloatNode); ok {
		if i, ok := p.literals[f.Location().From]; ok {
			return at(n, &ast.ConstantNode{Value: negativeInteger(i)})
		}
		return at(n, &ast.ConstantNode{Value: -f.Value})
	}
	return call(n, negate, p.value(n.Node))
}

// comparisons has the replacements of operators that charge nothing. They are used if one side is a
// constant, so that the filter's text bounds the work; otherwise a metered function of the same name is.
var comparisons = map[string]func(a, b any) bool{
	"==": equal, "!=": notEqual, "<": less, "<=": lessOrEqual, ">": greater, ">=": greaterOrEqual,
	"startsWith": startsWith, "endsWith": endsWith,
}

var arithmeticOperators = map[string]func(a, b any) any{"+": add, "-": subtract, "*": multiply, "/": divide, "%": modulo}

func (p *rewriter) binary(n *ast.BinaryNode) ast.Node {
	switch n.Operator {
	case "&&", "and", "||", "or":
		return at(n, &ast.BinaryNode{Operator: n.Operator, Left: p.boolean(n.Left), Right: p.boolean(n.Right)})
	case "??":
		return at(n, &ast.BinaryNode{Operator: "??", Left: p.value(n.Left), Right: p.value(n.Right)})
	case "matches":
		re := compilePattern(n.Right.(*ast.StringNode).Value)
		return call(n, "matches", p.value(n.Left), &ast.ConstantNode{Value: re})
	}
	left, right := p.value(n.Left), p.value(n.Right)
	if f, ok := arithmeticOperators[n.Operator]; ok {
		return call(n, f, left, right)
	}
	if constants, ok := constantList(right); ok && n.Operator == "in" {
		return call(n, inSet, left, &ast.ConstantNode{Value: constantSet{newSet(constants)}})
	}
	if compare := comparisons[n.Operator]; compare != nil && (isConstant(left) || isConstant(right)) {
		return call(n, compare, left, right)
	}
	return call(n, n.Operator, left, right)
}

func (p *rewriter) array(n *ast.ArrayNode) ast.Node {
	nodes := make([]ast.Node, len(n.Nodes))
	constants := make([]any, len(n.Nodes))
	all := true
	for i, e := range n.Nodes {
		nodes[i] = p.value(e)
		var ok bool
		constants[i], ok = constant(nodes[i])
		all = all && ok
	}
	if all {
		return at(n, &ast.ConstantNode{Value: constants})
	}
	return at(n, &ast.ArrayNode{Nodes: nodes})
}

func isConstant(n ast.Node) bool {
	_, ok := constant(n)
	return ok
}

// constant returns the value of a rewritten literal.
func constant(n ast.Node) (any, bool) {
	switch n := n.(type) {
	case *ast.NilNode:
		return nil, true
	case *ast.BoolNode:
		return n.Value, true
	case *ast.FloatNode:
		return n.Value, true
	case *ast.StringNode:
		return n.Value, true
	case *ast.ConstantNode:
		if _, nested := n.Value.([]any); !nested {
			return n.Value, true
		}
	}
	return nil, false
}

func constantList(n ast.Node) ([]any, bool) {
	c, ok := n.(*ast.ConstantNode)
	if !ok {
		return nil, false
	}
	l, ok := c.Value.([]any)
	return l, ok
}

func (p *rewriter) builtin(n *ast.BuiltinNode) ast.Node {
	r := allowed[n.Name]
	if !r.predicate {
		args := make([]ast.Node, len(n.Arguments))
		for i, arg := range n.Arguments {
			args[i] = p.value(arg)
		}
		if r.static != nil {
			return call(n, r.static, args...)
		}
		return call(n, cmp.Or(r.metered, n.Name), args...)
	}
	p.loops = true
	over := p.predicateList(n)
	if n.Name == "sum" && len(n.Arguments) == 1 {
		return call(n, sum, over)
	}
	watch := p.observe
	p.observe = nil // not for each element
	defer func() { p.observe = watch }()
	body := n.Arguments[1].(*ast.PredicateNode).Node
	name, pay, inner := n.Name, "chargeCondition", body
	if name == "map" || name == "sum" {
		name, pay = "map", "chargeValue"
	}
	units := &ast.ConstantNode{Value: max(stepUnits, nodeUnits*size(body))}
	round := at(body, &ast.PredicateNode{Node: call(body, pay, p.value(inner), units)})
	loop := at(n, &ast.BuiltinNode{Name: name, Arguments: []ast.Node{over, round}})
	switch n.Name {
	case "sum":
		return call(n, sum, loop)
	case "count":
		return call(n, toInt64, loop)
	}
	return loop
}

// predicateList rewrites the first argument of a predicate into a list that expr's VM can
// iterate over.
func (p *rewriter) predicateList(n *ast.BuiltinNode) ast.Node {
	name := "the list that " + n.Name + " goes through"
	if to, ok := pathOf(n.Arguments[0]); ok {
		name = to.String()
	}
	return call(n.Arguments[0], "list", p.value(n.Arguments[0]), &ast.StringNode{Value: name})
}

// size returns the number of nodes below n.
func size(n ast.Node) int {
	count := 0
	walk(n, func(ast.Node) { count++ })
	return count
}

// call returns a call of fn, a function or the name of a metered one, at the position of n.
func call(n ast.Node, fn any, args ...ast.Node) ast.Node {
	var callee ast.Node = &ast.ConstantNode{Value: fn}
	if name, ok := fn.(string); ok {
		if name = meteredName(name); meteredTypes[name] == nil {
			panic("no function " + name)
		}
		callee = &ast.IdentifierNode{Value: name}
	}
	return at(n, &ast.CallNode{Callee: at(n, callee), Arguments: args})
}

// at sets the position of a new node to that of the node it replaces.
func at[N ast.Node](old ast.Node, n N) N {
	n.SetLocation(old.Location())
	return n
}
