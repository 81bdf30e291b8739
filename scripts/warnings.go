package scripts

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var warnings = []struct {
	pattern *regexp.Regexp
	message string
}{
	{regexp.MustCompile(`\.(toLocaleDateString|toLocaleTimeString)\s*\(`), "$1 throws, as there are no locales: use formatDate(date, layout, zone)"},
	{regexp.MustCompile(`\.(toLocaleString)\s*\(\s*[^)\s]`), "$1 with a locale or options throws: use formatDate(date, layout, zone) for dates, toFixed or toLocaleString() for numbers"},
	{regexp.MustCompile(`\.(localeCompare)\s*\([^()]*(?:\([^()]*\)[^()]*)*,`), "$1 with a locale other than English, or with options, throws: compare values derived from the texts, such as a.toLowerCase()"},
	{regexp.MustCompile(`\b(Intl)\s*\.`), "$1 is not available: use formatDate(date, layout, zone) for dates, toFixed or toLocaleString() for numbers"},
}

// Warnings finds calls that throw when a transform is run, so that its author learns of them when it
// is saved. It searches the source as text, so that it is cheap and safe in any process; matches
// inside comments are reported as well.
func Warnings(source string) (found []Diagnostic) {
	for _, w := range warnings {
		for _, at := range w.pattern.FindAllStringSubmatchIndex(source, MaxDiagnostics) {
			from := utf8.RuneCountInString(source[:at[2]])
			found = append(found, Diagnostic{
				Source: "transform", Severity: SeverityWarning,
				Message:  strings.Replace(w.message, "$1", source[at[2]:at[3]], 1),
				Location: LocateOffsets(source, from, from+at[3]-at[2]), // a name in ASCII
			})
		}
	}
	slices.SortStableFunc(found, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return found[:min(len(found), MaxDiagnostics)]
}
