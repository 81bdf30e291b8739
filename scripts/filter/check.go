package filter

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"

	"switchhook/scripts"
	"switchhook/scripts/suggest"
)

// typedConfig returns expr's environment for a filter as its author writes it.
func typedConfig(payload *shape) *conf.Config {
	return conf.New(types.Map{
		"type":    types.String,
		"id":      types.String,
		"account": types.String,
		"time":    types.String,
		"headers": types.TypeOf(map[string]string{}),
		"data":    payload.exprType(),
	})
}

// checkTypes runs expr's checker on the tree as it was written, before it is rewritten.
func checkTypes(source string, tree *parser.Tree, config *conf.Config) error {
	result, err := checkTree(source, tree, config)
	if err != nil {
		return err
	}
	if n := tree.Node.Nature(); n.IsUnknown(&config.NtCache) || n.IsBool() {
		return nil
	}
	return refuseAt(scripts.PhaseCompile, source, wholeOf(source), "a filter must be true or false, but this is %s: compare it with something", typeName(fmt.Sprint(result)))
}

// checkTree runs expr's checker and returns the type of the expression, which may be any.
func checkTree(source string, tree *parser.Tree, config *conf.Config) (reflect.Type, error) {
	result, err := checkerType(source, tree, config)
	if err != nil {
		return nil, err
	}
	return result, lintJoins(source, tree.Node)
}

func checkerType(source string, tree *parser.Tree, config *conf.Config) (reflect.Type, error) {
	result, err := checker.Check(tree, config)
	if err != nil {
		return nil, typeError(source, tree.Node, err)
	}
	return result, nil
}

// lintJoins refuses `+` between texts, which the checker allows.
func lintJoins(source string, root ast.Node) error {
	var err error
	walk(root, func(n ast.Node) {
		b, ok := n.(*ast.BinaryNode)
		if ok && err == nil && b.Operator == "+" && (b.Left.Nature().IsString() || b.Right.Nature().IsString()) {
			err = refuse(scripts.PhaseLint, source, b, "texts can't be joined in a filter: compare them one by one")
		}
	})
	return err
}

// walk visits every node below root. The linter has ruled out shared nodes.
func walk(root ast.Node, visit func(ast.Node)) {
	ast.Walk(&root, visitor(visit))
}

type visitor func(ast.Node)

// Visit implements ast.Visitor.
func (v visitor) Visit(n *ast.Node) { v(*n) }

var (
	unknownField = regexp.MustCompile(`^unknown field (.*)$`)
	noField      = regexp.MustCompile(`^type (.*) has no field (.*)$`)
	mismatch     = regexp.MustCompile(`^invalid operation: (\S+) \(mismatched types? (.*?)(?: and (.*))?\)$`)
	notInArray   = regexp.MustCompile(`^cannot use (.*) as type (.*) in array$`)
	notAList     = regexp.MustCompile(`^builtin (\S+) takes only array \(got (.*)\)$`)
	notABoolean  = regexp.MustCompile(`^predicate should return boolean \(got (.*)\)$`)
	notACond     = regexp.MustCompile(`^non-bool expression \(type (.*)\) used as condition$`)
	badArgument  = regexp.MustCompile(`^invalid argument for (\S+) \(type (.*)\)$`)
	badCall      = regexp.MustCompile(`^cannot use (.*) as argument \(type (.*)\) to call (\S+)`)
	badIndex     = regexp.MustCompile(`^array elements can only be selected using an integer \(got (.*)\)$`)
	badKey       = regexp.MustCompile(`^cannot use (.*) to get an element from (.*)$`)
)

// typeError translates a message of expr's checker into the terms of filter authors.
func typeError(source string, root ast.Node, err error) error {
	at, ok := errors.AsType[*file.Error](err)
	if !ok {
		return &scripts.Error{Phase: scripts.PhaseCompile, Message: err.Error()}
	}
	message := at.Message
	if m := unknownField.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("unknown field %q%s", m[1], suggestField(root, at.From, m[1]))
	} else if m := noField.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("%s has no field %q", typeName(m[1]), m[2])
	} else if m := mismatch.FindStringSubmatch(message); m != nil && m[3] == "" {
		message = fmt.Sprintf("`%s` can't be used with %s", m[1], typeName(m[2]))
	} else if m != nil {
		message = fmt.Sprintf("`%s` can't be used between %s and %s%s", m[1], typeName(m[2]), typeName(m[3]), suggestLiteral(root, at.From, m[1]))
	} else if m := notInArray.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("%s can't be in a list of %ss", typeName(m[1]), strings.TrimPrefix(typeName(m[2]), "a "))
	} else if m := notAList.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("%s goes through a list, not through %s", m[1], typeName(m[2]))
	} else if m := notABoolean.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("a predicate must be true or false, but this is %s", typeName(m[1]))
	} else if m := notACond.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("a condition must be true or false, but this is %s", typeName(m[1]))
	} else if m := badArgument.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("%s can't take %s", m[1], typeName(m[2]))
	} else if m := badCall.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("%s takes %s, not %s", m[3], typeName(m[2]), typeName(m[1]))
	} else if m := badIndex.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("an element of a list is chosen by a number, not by %s: write any(list, .name == …) to look at all of them", typeName(m[1]))
	} else if m := badKey.FindStringSubmatch(message); m != nil {
		message = fmt.Sprintf("a field of %s is chosen by a text, not by %s", typeName(m[2]), typeName(m[1]))
	}
	return refuseAt(scripts.PhaseCompile, source, at.Location, "%s", message)
}

// typeName returns the name of a Go type in messages to authors.
func typeName(t string) string {
	switch {
	case t == "int", t == "int64", t == "float64":
		return "a number"
	case t == "string":
		return "a text"
	case t == "bool":
		return "a boolean"
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case strings.HasPrefix(t, "map["):
		return "an object"
	case t == "unknown", t == "nil", t == "<nil>", t == "interface {}":
		return "nil"
	}
	return t
}

// suggestField suggests a known field of the object that has no field called wrong.
func suggestField(root ast.Node, at int, wrong string) string {
	var names []string
	walk(root, func(n ast.Node) {
		m, ok := n.(*ast.MemberNode)
		if !ok || m.Property.Location().From != at || m.Node.Nature().TypeData == nil {
			return
		}
		for name := range m.Node.Nature().Fields {
			names = append(names, name)
		}
	})
	slices.Sort(names)
	if meant := suggest.Closest(wrong, names); meant != "" {
		return fmt.Sprintf(": did you mean %q?", meant)
	}
	if len(names) > 0 && len(names) <= 8 {
		return ": the schema has " + strings.Join(names, ", ")
	}
	return ""
}

// suggestLiteral suggests how to write a literal that has the wrong type.
func suggestLiteral(root ast.Node, at int, op string) string {
	hint := ""
	walk(root, func(n ast.Node) {
		b, ok := n.(*ast.BinaryNode)
		if !ok || b.Location().From != at || b.Operator != op {
			return
		}
		for _, side := range [][2]ast.Node{{b.Left, b.Right}, {b.Right, b.Left}} {
			switch literal := side[0].(type) {
			case *ast.StringNode:
				if _, err := strconv.ParseFloat(literal.Value, 64); err == nil && side[1].Nature().IsNumber() {
					hint = fmt.Sprintf(": write %s without quotes", literal.Value)
				} else if (literal.Value == "true" || literal.Value == "false") && side[1].Nature().IsBool() {
					hint = fmt.Sprintf(": write %s without quotes", literal.Value)
				}
			case *ast.IntegerNode:
				if side[1].Nature().IsString() {
					hint = fmt.Sprintf(": write \"%d\" in quotes", literal.Value)
				}
			}
		}
	})
	return hint
}

// flatConfig returns the environment of the rewritten tree: a name for each path, and the
// metered functions.
func flatConfig(found map[string]path) *conf.Config {
	env := types.Map{}
	for key := range found {
		env[key] = types.Any
	}
	for name, kind := range meteredTypes {
		env[name] = kind
	}
	return conf.New(env)
}

var meteredTypes = func() map[string]types.Type {
	m := map[string]types.Type{}
	for name, fn := range (*Input)(nil).metered() {
		m[name] = types.TypeOf(fn)
	}
	return m
}()

// checkPatched runs expr's checker on the rewritten tree, as its compiler needs the types. An
// error here is a fault of the rewriter.
func checkPatched(source string, tree *parser.Tree, config *conf.Config) error {
	result, err := checkerType(source, tree, config)
	if err != nil {
		return err
	}
	if result.Kind() != reflect.Bool {
		return refuseAt(scripts.PhaseCompile, source, wholeOf(source), "a filter must be true or false")
	}
	return nil
}
