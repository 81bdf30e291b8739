package cmd

import (
	"encoding/xml"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"switchhook/scripts"
	"switchhook/scripts/scripttest"
)

// colours reports whether standard output shows colours (no-color.org).
func colours() bool { return coloursOn(os.Stdout) }

// coloursOn reports whether a file is a terminal on which colours are not disabled.
func coloursOn(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}

const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

// text formats results for people: a line for each case, with its faults below.
func (r *testResults) text(verbose, colours bool) string {
	w := &testWriter{verbose: verbose, colours: colours}
	for i := range r.Files {
		w.file(&r.Files[i])
	}
	fmt.Fprintf(w, "%d passed, %d failed", r.Passed, r.Failed)
	if r.Broken > 0 {
		fmt.Fprintf(w, ", %d %s not run", r.Broken, plural(r.Broken, "file"))
	}
	if r.Updated > 0 {
		fmt.Fprintf(w, ", %d updated", r.Updated)
	}
	fmt.Fprintf(w, " (%.0f ms)\n", r.DurationMS)
	return w.String()
}

type testWriter struct {
	strings.Builder
	verbose, colours bool
}

func (w *testWriter) paint(colour, text string) string {
	if !w.colours {
		return text
	}
	return colour + text + plain
}

func (w *testWriter) file(f *fileResult) {
	fmt.Fprintln(w, f.Path)
	if f.Error != "" {
		w.WriteString(w.paint(red, "  ✗ ") + strings.TrimPrefix(indentLines(printable(f.Error), "    "), "    "))
	}
	if f.Report != nil {
		for i := range f.Report.Cases {
			c := &f.Report.Cases[i]
			change := slices.IndexFunc(f.Updated, func(u scripttest.Change) bool { return u.Name == c.Name })
			if change < 0 || !c.Passed {
				w.oneCase(c)
				continue
			}
			fmt.Fprintf(w, "  ~ %s  now expects %s\n", printable(c.Name), printable(shortened(f.Updated[change].Expect)))
		}
	}
	if n := len(f.Updated); n > 0 {
		fmt.Fprintf(w, "  wrote what came out into %d %s\n", n, plural(n, "case"))
	}
	if f.left {
		w.WriteString("  --update writes no error into a case that expects something else: what fails here is left as it was\n")
	}
	fmt.Fprintln(w)
}

const widestExpect = 160 // characters

func shortened(text string) string {
	if r := []rune(text); len(r) > widestExpect {
		return string(r[:widestExpect]) + "…"
	}
	return text
}

func (w *testWriter) oneCase(c *scripts.TestCaseReport) {
	if c.Passed {
		fmt.Fprintf(w, "%s %s\n", w.paint(green, "  ✓"), printable(c.Name))
	} else {
		fmt.Fprintf(w, "%s %s\n", w.paint(red, "  ✗"), printable(c.Name))
	}
	for _, f := range c.Failures {
		w.WriteString(indentLines(printable(f.Message), "      "))
		w.diff(f.Diff, "      ")
	}
	if !c.Passed || w.verbose {
		for _, line := range c.Got.Console {
			w.WriteString(indentLines("console "+printable(line), "      "))
		}
	}
}

// The JUnit format has no standard; these are the elements that GitLab, Jenkins and
// GitHub's reporters all read.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitProblem `xml:"failure,omitempty"`
	Error   *junitProblem `xml:"error,omitempty"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func writeJUnit(path string, r *testResults) error {
	seconds := func(ms float64) string { return fmt.Sprintf("%.6f", ms/1000) }
	all := junitSuites{Tests: r.Passed + r.Failed + r.Broken, Failures: r.Failed, Errors: r.Broken, Time: seconds(r.DurationMS)}
	for _, f := range r.Files {
		s := junitSuite{Name: f.Path}
		if f.Error != "" {
			s.Tests, s.Errors = 1, 1
			s.Cases = append(s.Cases, junitCase{Name: "the file is run", Class: f.Path, Time: seconds(0), Error: &junitProblem{strings.SplitN(f.Error, "\n", 2)[0], f.Error}})
		}
		if f.Report != nil {
			s.Tests += len(f.Report.Cases)
			s.Failures, s.Time = f.Report.Failed, seconds(f.Report.DurationMS)
			for _, c := range f.Report.Cases {
				s.Cases = append(s.Cases, junitCase{Name: c.Name, Class: f.Path, Time: seconds(c.DurationMS), Failure: junitFailure(&c), Output: strings.Join(c.Got.Console, "\n")})
			}
		}
		all.Suites = append(all.Suites, s)
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o644)
}

func junitFailure(c *scripts.TestCaseReport) *junitProblem {
	if c.Passed {
		return nil
	}
	p := &junitProblem{}
	for _, f := range c.Failures {
		if p.Message == "" {
			p.Message = strings.SplitN(f.Message, "\n", 2)[0]
		}
		p.Text += f.Message + "\n" + f.Diff + "\n"
	}
	return p
}

// diff writes the lines of a difference.
func (w *testWriter) diff(text, indent string) {
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == "":
			continue
		case line[0] == '-':
			line = w.paint(red, printable(line))
		case line[0] == '+':
			line = w.paint(green, printable(line))
		default:
			line = printable(line)
		}
		fmt.Fprintf(w, "%s%s\n", indent, line)
	}
}
