package filter

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"

	"switchhook/scripts"
	"switchhook/scripts/suggest"
)

// The limits on a filter's text. expr's parser, checker and compiler recurse, so nesting is
// bounded before they run.
const (
	maxSource     = 4 << 10 // bytes
	maxBrackets   = 24      // open at once
	maxUnary      = 4       // `!`, `not`, `-`, `+` in a row
	maxTernaries  = 16
	maxPredicates = 2   // nested
	maxCalls      = 6   // nested: expr's checker checks arguments once for each overload
	maxPattern    = 256 // bytes of a regular expression
	maxProgram    = 500 // instructions it compiles to
)

// lintText checks the tokens, which expr's lexer reads without recursion.
func lintText(source string) error {
	if len(source) > maxSource {
		return &scripts.Error{Phase: scripts.PhaseLint, Message: fmt.Sprintf("filter is longer than %d bytes", maxSource)}
	}
	if !utf8.ValidString(source) {
		return &scripts.Error{Phase: scripts.PhaseLint, Message: "filter is not valid UTF-8"}
	}
	if strings.TrimSpace(source) == "" {
		return &scripts.Error{Phase: scripts.PhaseLint, Message: "filter is empty: write `true` to let every event pass"}
	}
	tokens, err := lexer.Lex(file.NewSource(source))
	if err != nil {
		if i := strings.Index(source, "=~"); i >= 0 && strings.Contains(err.Error(), "'~'") {
			from := utf8.RuneCountInString(source[:i])
			return refuseAt(scripts.PhaseLint, source, file.Location{From: from, To: from + 2}, "`=~` is not an operator: write `text matches \"pattern\"`")
		}
		return parseError(source, err)
	}
	brackets, unary, ternaries := 0, 0, 0
	for i, t := range tokens {
		no := func(format string, args ...any) error {
			return refuseAt(scripts.PhaseLint, source, t.Location, format, args...)
		}
		if hint := foreignToken(tokens, i); hint != "" {
			return no("%s", hint)
		}
		switch {
		case t.Is(lexer.Bracket, "(", "[", "{"):
			if brackets++; brackets > maxBrackets {
				return no("brackets are nested deeper than %d", maxBrackets)
			}
		case t.Is(lexer.Bracket):
			brackets--
		case t.Is(lexer.Operator, "?"):
			if ternaries++; ternaries > maxTernaries {
				return no("more than %d `? :` in one filter", maxTernaries)
			}
		}
		if t.Is(lexer.Operator, "!", "not", "-", "+") {
			if unary++; unary > maxUnary {
				return no("more than %d of `!`, `not`, `-` and `+` in a row", maxUnary)
			}
		} else {
			unary = 0
		}
	}
	return nil
}

// foreignToken returns what to write instead of a token of another language; empty if it is a
// filter's.
func foreignToken(tokens []lexer.Token, i int) string {
	t, next := tokens[i], tokens[min(i+1, len(tokens)-1)]
	switch {
	case t.Is(lexer.Operator, "?") && next.Is(lexer.Operator, ":"):
		return "`?:` is not allowed: write `a ?? b`"
	case t.Is(lexer.Operator, "let"):
		return "`let` is not allowed: write the value where it is used"
	case t.Is(lexer.Operator, "if", "else"):
		return "`" + t.Value + "` is not allowed: write `condition ? a : b`, or join conditions with && and ||"
	case t.Is(lexer.Operator, ";"):
		return "`;` is not allowed: a filter is one expression; join conditions with && and ||"
	case t.Is(lexer.Operator, "=>"), t.Is(lexer.Operator, "=") && next.Is(lexer.Operator, ">"):
		return "`=>` is not allowed: a condition on elements needs no function: write `any(list, .name == \"bug\")`"
	case t.Is(lexer.Operator, "="):
		return "`=` is not an operator: write `==` to compare"
	case t.Is(lexer.Operator, "&"):
		return "`&` is not an operator: write `&&`"
	case t.Is(lexer.Operator, "|") && next.Is(lexer.Operator):
		return "`|` is not an operator between conditions: write `||`"
	case t.Is(lexer.Operator, "<") && next.Is(lexer.Operator, ">"):
		return "`<>` is not an operator: write `!=`"
	case t.Is(lexer.Identifier) && sqlWords[strings.ToUpper(t.Value)] != "" && i > 0 && endsOperand(tokens[i-1]):
		return "`" + t.Value + "` is not an operator: " + sqlWords[strings.ToUpper(t.Value)]
	case t.Is(lexer.Identifier, "AND", "OR", "NOT", "IN"):
		return fmt.Sprintf("unexpected %q: operators are written in lower case: `%s`", t.Value, strings.ToLower(t.Value))
	}
	return ""
}

// sqlWords maps operators of SQL to a hint about what to write instead.
var sqlWords = map[string]string{
	"LIKE":    "write `startsWith`, `endsWith`, `contains` or `matches`",
	"ILIKE":   "write `lower(text) contains \"part\"`",
	"BETWEEN": "write `a >= 1 && a <= 2`",
	"IS":      "write `a == nil` or `a != nil`",
}

// endsOperand reports whether an operator may follow t.
func endsOperand(t lexer.Token) bool {
	return t.Kind == lexer.Identifier || t.Kind == lexer.Number || t.Kind == lexer.String || t.Is(lexer.Bracket, ")", "]")
}

// typographicCharacters maps characters that word processors substitute for typed ones to a
// hint about what to write instead.
var typographicCharacters = map[rune]string{
	'“': `write "`, '”': `write "`, '„': `write "`, '‟': `write "`, '«': `write "`, '»': `write "`, '＂': `write "`,
	'‘': `write '`, '’': `write '`, '‚': `write '`, '‛': `write '`, '‹': `write '`, '›': `write '`, '´': `write '`,
	'≤': "write <=", '≥': "write >=", '≠': "write !=", '–': "write -", '—': "write -", '−': "write -", '×': "write *", '÷': "write /",
	'\u00a0': "write a plain space", '\u200b': "remove it: it is invisible", '\ufeff': "remove it: it is invisible",
}

// parseError translates an error of expr's lexer or parser into the terms of filter authors.
func parseError(source string, err error) error {
	at, ok := err.(*file.Error)
	if !ok {
		return &scripts.Error{Phase: scripts.PhaseCompile, Message: err.Error()}
	}
	message := at.Message
	if rest, ok := strings.CutPrefix(message, "unexpected token "); ok {
		message = "unexpected " + token(rest)
	}
	if i := strings.Index(message, "(unexpected token "); i >= 0 {
		message = message[:i] + "(unexpected " + token(message[i+len("(unexpected token "):])
	}
	message = badNumber.ReplaceAllString(message, "$1 $2")
	if strings.HasSuffix(message, "value out of range") {
		if strings.Contains(message, "float") {
			message += ": the largest is about 1.8e308"
		} else {
			message += ": write it in decimal digits, which may be more than 64 bits hold"
		}
	}
	if strings.HasPrefix(message, "unrecognized character") && at.From < utf8.RuneCountInString(source) {
		if use := typographicCharacters[[]rune(source)[at.From]]; use != "" {
			message += ": " + use
		}
	}
	if message == "literal not terminated" {
		message = "text is not closed: a quotation mark is missing"
	}
	if strings.HasSuffix(message, "end of filter") {
		at.From = utf8.RuneCountInString(source)
	}
	return refuseAt(scripts.PhaseCompile, source, at.Location, "%s", message)
}

var badNumber = regexp.MustCompile(`^(invalid .* literal): strconv\.\w+: parsing (.*)$`)

// token converts expr's `Operator("&&")` into `&&` in quotes.
func token(s string) string {
	if s == "EOF" {
		return "end of filter"
	}
	if open := strings.IndexByte(s, '('); open > 0 {
		return s[open+1 : strings.LastIndexByte(s, ')')]
	}
	return s
}

// lintTree refuses all constructs except the allowed ones.
func lintTree(source string, root ast.Node) error {
	l := &linter{source: source, seen: map[ast.Node]bool{}}
	l.visit(root)
	if l.err != nil {
		return l.err
	}
	return nil
}

type linter struct {
	source     string
	seen       map[ast.Node]bool
	predicates int // that enclose the node
	calls      int
	err        *scripts.Error // the first one found
}

func (l *linter) refuse(n ast.Node, format string, args ...any) {
	if l.err == nil {
		l.err = refuse(scripts.PhaseLint, l.source, n, format, args...)
	}
}

func (l *linter) visit(n ast.Node) {
	if n == nil || l.err != nil {
		return
	}
	// A chained comparison puts one node into the tree twice, and nested chains double the
	// tree at each level.
	if l.seen[n] {
		l.refuse(n, "comparisons can't be chained: write `a < b && b < c`")
		return
	}
	l.seen[n] = true
	switch n := n.(type) {
	case *ast.NilNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.StringNode:
	case *ast.IdentifierNode:
		l.name(n)
	case *ast.UnaryNode:
		l.visit(n.Node)
	case *ast.BinaryNode:
		l.binary(n)
	case *ast.ChainNode:
		l.visit(n.Node)
	case *ast.MemberNode:
		l.eventPrefix(n)
		l.visit(n.Node)
		l.visit(n.Property)
	case *ast.ConditionalNode:
		l.visit(n.Cond)
		l.visit(n.Exp1)
		l.visit(n.Exp2)
	case *ast.ArrayNode:
		for _, e := range n.Nodes {
			l.visit(e)
		}
	case *ast.CallNode:
		l.call(n)
	case *ast.BuiltinNode:
		l.builtin(n)
	case *ast.PredicateNode:
		l.visit(n.Node)
	case *ast.PointerNode:
		if n.Name != "" {
			l.refuse(n, "`#%s` is not allowed: `#` is the element", n.Name)
		}
	case *ast.SliceNode:
		l.refuse(n, "parts of a list or text can't be cut out: write startsWith, endsWith, first or last")
	case *ast.MapNode:
		l.refuse(n, "objects can't be made in a filter")
	case *ast.BytesNode:
		l.refuse(n, "byte strings are not allowed: write \"text\"")
	default:
		l.refuse(n, "this is not allowed in a filter")
	}
}

// eventPrefix refuses event.data, which is valid in transforms but not in filters.
func (l *linter) eventPrefix(n *ast.MemberNode) {
	base, isName := n.Node.(*ast.IdentifierNode)
	part, isField := n.Property.(*ast.StringNode)
	if isName && isField && base.Value == "event" && slices.Contains(scope, part.Value) {
		l.refuse(base, "there is no `event`: write `%s` instead of `event.%s`", part.Value, part.Value)
	}
}

func (l *linter) name(n *ast.IdentifierNode) {
	if slices.Contains(scope, n.Value) {
		return
	}
	if instead, ok := nameHints[n.Value]; ok {
		l.refuse(n, "there is no `%s`: %s", n.Value, instead)
		return
	}
	if _, ok := allowed[n.Value]; ok {
		l.refuse(n, "`%s` is a function: write %s(…)", n.Value, n.Value)
		return
	}
	if meant := suggest.Closest(n.Value, scope); meant != "" {
		l.refuse(n, "there is no `%s`: did you mean `%s`?", n.Value, meant)
		return
	}
	l.refuse(n, "there is no `%s`: a filter sees %s; write `data.%s` for a field of the payload, %q for a text", n.Value, strings.Join(scope, ", "), n.Value, n.Value)
}

func (l *linter) binary(n *ast.BinaryNode) {
	if !operators[n.Operator] {
		l.refuse(n, "`%s` is not allowed: %s", n.Operator, cmp.Or(refusedOperators[n.Operator], "a filter has no such operator"))
		return
	}
	l.visit(n.Left)
	if n.Operator == "matches" {
		l.pattern(n.Right)
	}
	l.visit(n.Right)
}

func (l *linter) pattern(n ast.Node) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		l.refuse(n, "matches takes a constant pattern: write it in quotes")
		return
	}
	if len(s.Value) > maxPattern {
		l.refuse(n, "pattern is longer than %d bytes", maxPattern)
		return
	}
	re, err := syntax.Parse(s.Value, syntax.Perl)
	if err != nil {
		l.refuse(n, "bad pattern %q: %s", s.Value, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return
	}
	program, err := syntax.Compile(re.Simplify())
	if err != nil || len(program.Inst) > maxProgram {
		l.refuse(n, "pattern %q is too complex", s.Value)
	}
}

// compilePattern compiles a pattern that has passed the linter.
func compilePattern(text string) pattern {
	program, err := syntax.Compile(syntaxTree(text).Simplify())
	if err != nil {
		panic(err)
	}
	return pattern{regexp.MustCompile(text), 20 + 8*len(program.Inst)}
}

func syntaxTree(text string) *syntax.Regexp {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		panic(err)
	}
	return re
}

func (l *linter) call(n *ast.CallNode) {
	switch callee := n.Callee.(type) {
	case *ast.IdentifierNode:
		if why, ok := refused[callee.Value]; ok {
			l.refuse(n, "%s is not allowed: %s", callee.Value, why)
			return
		}
		if meant := cmp.Or(functionHints[callee.Value], suggest.Closest(callee.Value, allowedNames())); meant != "" {
			l.refuse(n, "there is no function %s: did you mean %s?", callee.Value, meant)
			return
		}
		l.refuse(n, "there is no function %s: a filter has %s", callee.Value, strings.Join(allowedNames(), ", "))
	case *ast.MemberNode:
		name, _ := callee.Property.(*ast.StringNode)
		if name == nil {
			l.refuse(n, "values can't be called")
			return
		}
		switch _, ok := allowed[name.Value]; {
		case ok:
			l.refuse(n, "values have no methods: write %s(value)", name.Value)
		case operators[name.Value]:
			l.refuse(n, "values have no methods: write `value %s other`", name.Value)
		default:
			l.refuse(n, "values have no methods, so .%s() can't be called", name.Value)
		}
	default:
		l.refuse(n, "values can't be called")
	}
}

// functionHints maps names that authors try to the function of the same meaning.
var functionHints = map[string]string{"length": "len", "lenght": "len", "size": "len", "strlen": "len", "some": "any", "every": "all"}

func allowedNames() []string {
	names := make([]string, 0, len(allowed))
	for name := range allowed {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (l *linter) builtin(n *ast.BuiltinNode) {
	r, ok := allowed[n.Name]
	if !ok {
		l.refuse(n, "%s is not allowed: %s", n.Name, cmp.Or(refused[n.Name], "it is not among a filter's functions"))
		return
	}
	if got := len(n.Arguments); got < r.min || got > r.max {
		want := map[[2]int]string{{1, 1}: "one argument", {1, 2}: "one or two arguments", {2, 2}: "two arguments"}[[2]int{r.min, r.max}]
		hint := ""
		if n.Name == "count" && got == 1 {
			hint = ": write len(list) for the number of its elements"
		}
		l.refuse(n, "%s takes %s, not %d%s", n.Name, want, got, hint)
		return
	}
	if l.calls++; l.calls > maxCalls {
		l.refuse(n, "functions are nested deeper than %d", maxCalls)
		return
	}
	defer func() { l.calls-- }()
	l.visit(n.Arguments[0])
	if !r.predicate {
		for _, arg := range n.Arguments[1:] {
			l.visit(arg)
		}
		return
	}
	if len(n.Arguments) == 1 {
		return
	}
	if l.predicates++; l.predicates > maxPredicates {
		l.refuse(n, "predicates are nested deeper than %d", maxPredicates)
	}
	l.visit(n.Arguments[1])
	l.predicates--
}
