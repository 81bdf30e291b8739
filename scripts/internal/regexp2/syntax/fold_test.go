package syntax

import (
	"slices"
	"testing"
	"unicode"
)

// The sets are those that a walk over every code point makes, as upstream does it.
func TestFoldsAreAllThereAre(t *testing.T) {
	for _, options := range []RegexOptions{ECMAScript, ECMAScript | Unicode, 0} {
		for _, r := range []SingleRange{{0, unicode.MaxRune}, {'a', 'z'}, {'K', 'k'}, {0x80, 0xffff}, {'ß', 'ß'}, {0x1e9e, 0x1e9e}, {0x10400, 0x1044f}, {5, 4}} {
			var want []foldPair
			for ch := r.First; ch <= r.Last; ch++ {
				for _, eq := range tryFindCaseEquivalences(ch, options) {
					want = append(want, foldPair{ch, eq})
				}
			}
			slices.SortStableFunc(want, func(a, b foldPair) int {
				if a.from != b.from {
					return int(a.from - b.from)
				}
				return int(a.to - b.to)
			})
			if got := foldsWithin(r, options); !slices.Equal(got, want) {
				t.Errorf("%v, options %v: %d pairs, not %d", r, options, len(got), len(want))
			}
		}
	}
}
