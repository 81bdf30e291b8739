package scripts

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Warning describes a call in a transform that will throw when it is run, so that its author
// learns of it when it is saved.
type Warning struct {
	Message string `json:"message"`
	Line    int    `json:"line"` // 1-based
	Column  int    `json:"column"`
}

const maxWarnings = 20

var warnings = []struct {
	pattern *regexp.Regexp
	message string
}{
	{regexp.MustCompile(`\.(toLocaleDateString|toLocaleTimeString)\s*\(`), "$1 throws, as there are no locales: use formatDate(date, layout, zone)"},
	{regexp.MustCompile(`\.(toLocaleString)\s*\(\s*[^)\s]`), "$1 with a locale or options throws: use formatDate(date, layout, zone) for dates, toFixed or toLocaleString() for numbers"},
	{regexp.MustCompile(`\.(localeCompare)\s*\([^()]*(?:\([^()]*\)[^()]*)*,`), "$1 with a locale other than English, or with options, throws: compare values derived from the texts, such as a.toLowerCase()"},
	{regexp.MustCompile(`\b(Intl)\s*\.`), "$1 is not available: use formatDate(date, layout, zone) for dates, toFixed or toLocaleString() for numbers"},
}

// Warnings finds calls that a transform can't use. It searches the source as text, so that it
// is cheap and safe in any process; matches inside comments are reported as well.
func Warnings(source string) (found []Warning) {
	for _, w := range warnings {
		for _, at := range w.pattern.FindAllStringSubmatchIndex(source, maxWarnings) {
			before := source[:at[2]]
			line := before[strings.LastIndexByte(before, '\n')+1:]
			found = append(found, Warning{
				Message: strings.Replace(w.message, "$1", source[at[2]:at[3]], 1),
				Line:    1 + strings.Count(before, "\n"), Column: 1 + utf8.RuneCountInString(line),
			})
		}
	}
	slices.SortStableFunc(found, func(a, b Warning) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return found[:min(len(found), maxWarnings)]
}
