package scripttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

const (
	diffContext = 3       // unchanged lines shown around changed ones
	diffLines   = 200     // maximum lines of a diff
	diffCells   = 4 << 20 // maximum line pairs that are compared
)

// differences returns the line diff between two values as indented JSON, "" if they are
// equal.
func differences(want, got any) string {
	if equal(generalised(want), generalised(got)) {
		return ""
	}
	return strings.Join(lineDiff(pretty(want), pretty(got)), "\n")
}

func generalised(v any) any {
	if list, ok := v.([]string); ok {
		return generic(list)
	}
	return v
}

// pretty formats a value on several lines, with objects sorted by name.
func pretty(v any) []string {
	text, err := marshal(v)
	if err != nil {
		return []string{err.Error()}
	}
	return strings.Split(indented(text, ""), "\n")
}

// indented breaks JSON into lines; lines after the first begin with prefix.
func indented(text []byte, prefix string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, text, prefix, "  "); err != nil {
		return string(text)
	}
	return b.String()
}

// lineDiff marks the lines of a with "- ", those of b with "+ " and those of both with
// two spaces, by their longest common subsequence.
func lineDiff(a, b []string) []string {
	var lines []string
	var head, tail int
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	for _, line := range a[:head] {
		lines = append(lines, "  "+line)
	}
	lines = append(lines, middleDiff(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, line := range a[len(a)-tail:] {
		lines = append(lines, "  "+line)
	}
	return cut(lines)
}

func middleDiff(a, b []string) (lines []string) {
	var i, j int
	if len(a)*len(b) <= diffCells {
		common := commonLengths(a, b)
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				lines = append(lines, "  "+a[i])
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				lines = append(lines, "- "+a[i])
				i++
			default:
				lines = append(lines, "+ "+b[j])
				j++
			}
		}
	}
	for ; i < len(a); i++ {
		lines = append(lines, "- "+a[i])
	}
	for ; j < len(b); j++ {
		lines = append(lines, "+ "+b[j])
	}
	return lines
}

// commonLengths returns, for each pair of positions, the length of the longest common
// subsequence of the rest of a and b.
func commonLengths(a, b []string) [][]int32 {
	common := make([][]int32, len(a)+1)
	for i := range common {
		common[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	return common
}

// cut removes unchanged lines far from changed ones, and lines beyond diffLines.
func cut(lines []string) (kept []string) {
	near := make([]bool, len(lines))
	for i, line := range lines {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		for j := max(0, i-diffContext); j <= min(len(lines)-1, i+diffContext); j++ {
			near[j] = true
		}
	}
	for i, line := range lines {
		switch {
		case len(kept) == diffLines:
			return append(kept, fmt.Sprintf("… %d lines more", len(lines)-i))
		case near[i]:
			kept = append(kept, clip(line))
		case i > 0 && near[i-1] && i+1 < len(lines), i == 0:
			kept = append(kept, "  …")
		}
	}
	return kept
}

// clip bounds the length of a line, which may hold a text as long as a body.
func clip(line string) string {
	const most = 2000
	if len(line) <= most {
		return line
	}
	return strings.ToValidUTF8(line[:most], "") + "…"
}

// Diff compares two texts line by line; it returns "" if they are equal. Lines in from only
// begin with "- ", in to only with "+ ", in both with "  "; unchanged ones far from a change
// are left out.
func Diff(from, to string) string {
	if from == to {
		return ""
	}
	return strings.Join(lineDiff(strings.Split(from, "\n"), strings.Split(to, "\n")), "\n")
}
