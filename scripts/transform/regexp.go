package transform

import (
	"errors"
	"reflect"
	"strings"
	"sync"

	"switchhook/scripts"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja/ast"
)

// guarding is held by the run whose regular expressions the process-wide guard watches. A
// sandbox child runs one script at a time, so it never waits for the lock.
var guarding sync.Mutex

// guardMatches makes r's interrupt stop backtracking regular expressions, which goja's
// interrupt does not, until the returned function is called.
func (r *run) guardMatches() (release func()) {
	guarding.Lock()
	regexp2.SetGuard(r.matches)
	return func() {
		regexp2.SetGuard(nil)
		guarding.Unlock()
	}
}

// matchFailed ends the run: goja would continue the script as if the text did not match.
func (r *run) matchFailed(err error) {
	if r.noMatch == nil {
		r.noMatch = err
		r.vm.Interrupt(err)
	}
}

// stopError returns the error of a run that was interrupted.
func (r *run) stopError() *scripts.Error {
	if errors.Is(r.noMatch, regexp2.ErrBacktrackingStackLimit) {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: "a regular expression backtracks too far: repeat less, or look at a shorter text"}
	}
	e := r.limits.TimeoutError()
	if r.noMatch != nil {
		e.Message += scripts.InRegexp
	}
	return e
}

// findLineEnds makes goja run the literals below tree that match the start or end of a line
// with regexp2, which supports every line end. goja's first choice, Go's engine, supports \n
// only and refuses lookaheads: an empty lookahead selects regexp2 and changes nothing else.
func findLineEnds(tree *ast.Program) {
	visit(reflect.ValueOf(tree.Body), func(node any) bool {
		if n, ok := node.(*ast.RegExpLiteral); ok && strings.Contains(n.Flags, "m") && anchored(n.Pattern) {
			n.Pattern += "(?=)"
		}
		return true
	})
}

// anchored reports whether a pattern has a ^ or $ that is neither escaped nor in a class.
func anchored(pattern string) bool {
	class := false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			i++
		case c == '[':
			class = true
		case c == ']':
			class = false
		case !class && (c == '^' || c == '$'):
			return true
		}
	}
	return false
}
