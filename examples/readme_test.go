package examples_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"switchhook/engine/testkit"
	"testing"
)

// block is a fenced block of a Markdown file.
type block struct {
	language, text string
	line           int
}

// blocks returns the fenced blocks of some sections of a Markdown file.
func blocks(markdown string, sections ...string) (found []block) {
	inside := false
	var open *block
	for i, line := range strings.Split(markdown, "\n") {
		switch {
		case open != nil && line == "```":
			found, open = append(found, *open), nil
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "## "):
			inside = false
			for _, s := range sections {
				inside = inside || line == "## "+s
			}
		case inside && strings.HasPrefix(line, "```"):
			open = &block{language: strings.TrimPrefix(line, "```"), line: i + 2}
		}
	}
	return found
}

func TestReadme_Commands(t *testing.T) {
	t.Parallel()
	walk(t, "../README.md", 12, "Quick start", "Filters and transforms", "Clean up")
}

func TestRESTHooksPage_Commands(t *testing.T) {
	t.Parallel()
	walk(t, "../docs/rest-hooks.md", 14, "Quick start", "Sample data and test events", "Identity: signatures", "Batching, ordering and rate limits", "Unsubscribe")
}

// walk runs a page's commands verbatim against a separate router: only "go run ." and the
// ports are replaced. The output that the page shows below a command must be in its output:
// of JSON the members shown, of text the lines, with "…" for anything.
func walk(t *testing.T, page string, atLeast int, sections ...string) {
	folder := t.TempDir()
	router, first, second := testkit.FreeAddress(t), testkit.FreeAddress(t), testkit.FreeAddress(t)
	words := strings.NewReplacer("go run .", buildProgram(t, "switchhook"), "127.0.0.1:8080", router, "127.0.0.1:9000", first, "127.0.0.1:9001", second)
	env := []string{"SWITCHHOOK_LISTEN=" + router, "SWITCHHOOK_ADDR=" + first, "SWITCHHOOK_SERVER=http://" + router}
	user := &shell{background: map[string]*program{}}
	user.open(t, folder, env)

	steps := blocks(string(read(t, page)), sections...)
	if len(steps) < atLeast {
		t.Fatalf("the walk is missing from %s; were its headings renamed?", page)
	}
	for i, b := range steps {
		where := fmt.Sprintf("%s:%d", path.Base(page), b.line)
		if b.language != "sh" {
			continue
		}
		command := words.Replace(b.text)
		if stays(b.text) {
			env := env
			if key, err := os.ReadFile(folder + "/switchhook-data/admin.key"); err == nil {
				env = append(env, "SWITCHHOOK_KEY="+strings.TrimSpace(string(key)))
			}
			p := start(t, folder, env, "bash", "-c", "exec "+command)
			user.background[where] = p
			waitFor(t, func() bool {
				return strings.Contains(p.text(), "INF listening") || strings.Contains(p.text(), "not verified") || strings.Contains(p.text(), "subscribed to")
			}, func() string { return where + " does not start:\n" + p.text() })
			continue
		}
		output := user.run(t, where, command)
		for _, shown := range steps[i+1:] {
			if shown.language == "sh" {
				break
			}
			complaint := ""
			waitFor(t, func() bool {
				complaint = user.missing(shown, output)
				if complaint != "" && !changes(b.text) {
					output = user.run(t, where, command) // a query of state that is still changing
				}
				return complaint == ""
			}, func() string {
				return fmt.Sprintf("%s shows what does not come: %s\n%s\n%s", where, complaint, output, user.screens())
			})
		}
	}
}

// stays reports whether a command runs until it is ended.
func stays(command string) bool {
	return strings.HasPrefix(command, "go run . serve") || strings.HasPrefix(command, "go run . listen")
}

// changes reports whether a command must not be repeated.
func changes(command string) bool {
	return strings.Contains(command, "-X POST") || strings.Contains(command, "-X DELETE") || strings.Contains(command, "go run . send")
}

// shell is a user's terminal, and the other open ones.
type shell struct {
	in         io.Writer
	out        *bufio.Scanner
	background map[string]*program
}

const endOfOutput = "--- end of output ---"

func (s *shell) open(t *testing.T, folder string, env []string) {
	t.Helper()
	cmd := exec.Command("bash", "-eu", "-o", "pipefail")
	cmd.Dir, cmd.Env = folder, append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	s.in, s.out = in, bufio.NewScanner(out)
	s.out.Buffer(nil, 16<<20)
}

// run runs a command and waits for its end.
func (s *shell) run(t *testing.T, where, command string) string {
	t.Helper()
	if _, err := fmt.Fprintf(s.in, "%s\necho; echo '%s'\n", command, endOfOutput); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	var output strings.Builder
	for s.out.Scan() {
		if s.out.Text() == endOfOutput {
			return output.String()
		}
		output.WriteString(s.out.Text() + "\n")
	}
	t.Fatalf("%s fails:\n%s\n%s\n%s", where, command, output.String(), s.screens())
	return ""
}

func (s *shell) screens() string {
	var all strings.Builder
	for where, p := range s.background {
		fmt.Fprintf(&all, "--- %s\n%s", where, p.text())
	}
	return all.String()
}

// missing returns the part of a block that is missing: JSON from the command's output, text
// from all terminals.
func (s *shell) missing(b block, output string) string {
	if b.language == "json" {
		var want, got any
		if err := json.Unmarshal([]byte(b.text), &want); err != nil {
			return "no JSON in the README: " + err.Error()
		}
		// The last line is the answer of the last command.
		lines := strings.Split(strings.TrimSpace(output), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
			return "no JSON in the output: " + err.Error()
		}
		return within(want, got, "$")
	}
	screens := output + s.screens()
	for _, line := range strings.Split(strings.TrimRight(b.text, "\n"), "\n") {
		if !like(line).MatchString(screens) {
			return line
		}
	}
	return ""
}

// like compiles a text to a pattern in which "…" matches anything within a line.
func like(text string) *regexp.Regexp {
	return regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(text), "…", ".*"))
}

// within returns the part of want that is not in got; "" if there is none.
func within(want, got any, at string) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return at + " is not an object"
		}
		for name, value := range w {
			if _, there := g[name]; !there {
				return at + "." + name + " is missing"
			}
			if problem := within(value, g[name], at+"."+name); problem != "" {
				return problem
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s is not a list of %d", at, len(w))
		}
		for i := range w {
			if problem := within(w[i], g[i], fmt.Sprintf("%s[%d]", at, i)); problem != "" {
				return problem
			}
		}
		return ""
	case string:
		g, ok := got.(string)
		if ok && regexp.MustCompile("^"+like(w).String()+"$").MatchString(g) {
			return ""
		}
	default:
		if want == got {
			return ""
		}
	}
	return fmt.Sprintf("%s is %v, not %v", at, got, want)
}
