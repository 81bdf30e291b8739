// Package suggest finds the name that an author probably meant.
package suggest

import "strings"

// Closest returns the name with the smallest edit distance, at most a third of its length; ""
// if there is none.
func Closest(wrong string, names []string) string {
	best, least := "", 1+max(1, len(wrong)/3)
	if len(wrong) > 64 {
		return ""
	}
	for _, name := range names {
		if len(name) > 64 {
			continue
		}
		d := editDistance(strings.ToLower(wrong), strings.ToLower(name))
		if d < least || d == least && best != "" && name < best {
			best, least = name, d
		}
	}
	return best
}

// editDistance returns the number of letters to insert, delete, replace or swap with their
// neighbour to get from a to b.
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, above, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(y)]
}
