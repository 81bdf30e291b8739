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

// Key is a compiled expression whose value groups events: data.customer.id. It has the limits
// of a filter and is as safe for concurrent use.
type Key struct{ filter *Filter }

// CompileKey checks and compiles a key. The rules are those of Compile, except that the value
// is a text, a number or a boolean. schemas and err are as in Compile.
func CompileKey(source string, schemas ...[]byte) (k *Key, err error) {
	defer func() {
		if r := recover(); r != nil { // as in Compile
			k, err = nil, &scripts.Error{Phase: scripts.PhaseCompile, Message: fmt.Sprintf("the key can't be compiled: %v", r)}
		}
	}()
	if strings.TrimSpace(source) == "" {
		return nil, &scripts.Error{Phase: scripts.PhaseLint, Message: "key is empty: write the value that groups events, such as `data.customer.id`"}
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
		return nil, refuseAt(scripts.PhaseCompile, source, wholeOf(source), "a key must be a text, a number or a boolean, but this is %s: name a member of it", typeName(fmt.Sprint(kind)))
	}
	f, err := assemble(source, tree, (*rewriter).value, checkRewritten)
	if err != nil {
		return nil, err
	}
	return &Key{f}, nil
}

// checkRewritten runs expr's checker on the rewritten tree of a key, whose value may be any.
func checkRewritten(source string, tree *parser.Tree, config *conf.Config) error {
	_, err := checkerType(source, tree, config)
	return err
}

// Of returns the key of an event as a text in which values of different kinds differ. The
// error, if there is no value or it is nil, is a *scripts.Error.
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
