package filter

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/parser"

	"switchhook/scripts"
)

// Key is a compiled expression that gives each event a value, by which events belong
// together: data.customer.id. It is bounded as a filter is, and as safe to share.
type Key struct{ filter *Filter }

// CompileKey checks and compiles a key. Its rules are those of a filter, but that its value
// is a text, a number or a boolean. Schemas and error as in Compile.
func CompileKey(source string, schemas ...[]byte) (k *Key, err error) {
	defer func() {
		if r := recover(); r != nil { // as in Compile
			k, err = nil, &scripts.Error{Phase: scripts.PhaseCompile, Message: fmt.Sprintf("the key can't be compiled: %v", r)}
		}
	}()
	if strings.TrimSpace(source) == "" {
		return nil, &scripts.Error{Phase: scripts.PhaseLint, Message: "key is empty: name what events are told apart by, such as `data.customer.id`"}
	}
	tree, config, err := parse(source, schemas)
	if err != nil {
		return nil, err
	}
	kind, err := checkTree(source, tree, config)
	if err != nil {
		return nil, err
	}
	n := tree.Node.Nature()
	if !n.IsUnknown(&config.NtCache) && !n.IsString() && !n.IsNumber() && !n.IsBool() {
		return nil, refuseAt(scripts.PhaseCompile, source, 0, "a key must be a text, a number or a boolean, but this is %s: name a member of it", typeName(fmt.Sprint(kind)))
	}
	f, err := assemble(source, tree, (*patcher).value, checkRewritten)
	if err != nil {
		return nil, err
	}
	return &Key{f}, nil
}

// checkRewritten has expr type the rewritten tree of a key, whose value may be anything.
func checkRewritten(source string, tree *parser.Tree, config *conf.Config) error {
	_, err := typed(source, tree, config)
	return err
}

// Of gives an event's value, as a text in which values of different kinds differ. An error,
// a *scripts.Error, says why it has none; nil is no value.
func (k *Key) Of(in *Input) (value string, err error) {
	out, err := k.filter.run(in)
	if err != nil {
		return "", err
	}
	switch v := out.(type) {
	case string:
		return "s" + v, nil
	case int64:
		return "n" + strconv.FormatInt(v, 10), nil
	case bigInt:
		return "n" + string(v), nil
	case int:
		return "n" + strconv.Itoa(v), nil
	case float64:
		if whole := math.Trunc(v); whole == v && math.Abs(v) < 1<<53 { // 1.0 is 1
			return "n" + strconv.FormatInt(int64(v), 10), nil
		}
		return "n" + strconv.FormatFloat(v, 'g', -1, 64), nil
	case bool:
		return "b" + strconv.FormatBool(v), nil
	}
	return "", k.filter.runError(faultf("the key must be a text, a number or a boolean, but it is %s", describe(out)))
}
