package syntax

import (
	"slices"
	"sort"
	"sync"
	"unicode"
)

// foldPair says that the character to matches where from does, if case is ignored.
type foldPair struct{ from, to rune }

// legacyFolds and unicodeFolds hold every such pair, ordered by from: in ECMAScript without
// the flag u, and everywhere else.
var (
	legacyFolds  = sync.OnceValue(func() []foldPair { return foldPairs(ECMAScript) })
	unicodeFolds = sync.OnceValue(func() []foldPair { return foldPairs(Unicode) })
)

func foldPairs(options RegexOptions) []foldPair {
	var pairs []foldPair
	add := func(ch rune) {
		for _, eq := range tryFindCaseEquivalences(ch, options) {
			pairs = append(pairs, foldPair{ch, eq})
		}
	}
	// unicode.CaseRanges has all characters that unicode.SimpleFold changes, but one.
	add('ß')
	for _, r := range unicode.CaseRanges {
		for ch := rune(r.Lo); ch <= rune(r.Hi); ch++ {
			add(ch)
		}
	}
	slices.SortFunc(pairs, func(a, b foldPair) int {
		if a.from != b.from {
			return int(a.from - b.from)
		}
		return int(a.to - b.to)
	})
	return slices.Compact(pairs)
}

// foldsWithin gives the pairs whose from lies in r.
func foldsWithin(r SingleRange, options RegexOptions) []foldPair {
	pairs := unicodeFolds()
	if options&ECMAScript != 0 && options&Unicode == 0 {
		pairs = legacyFolds()
	}
	first := sort.Search(len(pairs), func(i int) bool { return pairs[i].from >= r.First })
	n := sort.Search(len(pairs)-first, func(i int) bool { return pairs[first+i].from > r.Last })
	return pairs[first : first+n]
}
