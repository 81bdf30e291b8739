package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"switchhook/server/api"
	"testing"
)

// switchhook runs a command against the router and returns its output and exit status.
func (p *process) switchhook(args ...string) (string, int) {
	p.t.Helper()
	return p.inFolder("", args...)
}

func (p *process) inFolder(dir string, args ...string) (string, int) {
	p.t.Helper()
	c := command(args...)
	c.Dir = dir
	c.Env = append(append(c.Env, "SWITCHHOOK_SERVER="+p.api.URL, "SWITCHHOOK_KEY="+testKey), p.env...)
	out, err := c.CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		p.t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// expect runs a command that must end with a status and print texts.
func (p *process) expect(status int, texts []string, args ...string) string {
	p.t.Helper()
	out, got := p.switchhook(args...)
	if got != status {
		p.t.Errorf("%q ended with %d, not %d\n%s", args, got, status, out)
	}
	for _, want := range texts {
		if !strings.Contains(out, want) {
			p.t.Errorf("%q does not print %q but\n%s", args, want, out)
		}
	}
	return out
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	firstText  = "export default e => ({text: `Order ${e.data.id}`})\n"
	secondText = "export default (e: {data: {id: number}}) => {\n  const id: number = e.data.id\n  return {text: `Bestellung ${id}`}\n}\n"
	textCases  = `{"cases": [{"name": "the id is told", "event": {"file": "one.json"}, "expect": {"body_contains": {"text": "Order 1"}}}]}`
	oneOrder   = `{"type": "order.created", "data": {"id": 1}}`
)

func TestScripts_PushAndPull(t *testing.T) {
	t.Parallel()
	p, dir := serve(t, t.TempDir()), t.TempDir()
	write(t, dir, "one.json", oneOrder)
	cases, first, second := write(t, dir, "a.test.json", textCases), write(t, dir, "a.js", firstText), write(t, dir, "b.ts", secondText)

	p.expect(1, []string{"`=>` is not allowed"}, "scripts", "push", "text", write(t, dir, "broken.js", "export default e => {"), "--note", "x", "--cases", cases, "--live", "--kind", "filter")
	p.expect(1, []string{"Unexpected end of file", "line 1"}, "scripts", "push", "text", write(t, dir, "broken.js", "export default e => {"))
	p.expect(0, []string{"NAME"}, "scripts", "list")
	if out := p.expect(0, nil, "scripts", "list"); strings.Contains(out, "text") {
		t.Errorf("what does not compile leaves a script behind:\n%s", out)
	}
	p.expect(1, []string{"give --kind"}, "scripts", "push", "text", write(t, dir, "a.txt", "true"))
	p.expect(0, []string{"created the transform text; this is version 1", "1 passed, 0 failed", "version 1 is live"}, "scripts", "push", "text", first, "--cases", cases, "--live", "--note", "first")
	p.expect(0, []string{"version 1 has this source already"}, "scripts", "push", "text", first)
	p.expect(0, []string{"are the same"}, "scripts", "diff", "text", first)

	// The second version fails the test: it is stored, but not live.
	p.expect(1, []string{"this is version 2", "✗ the id is told", `+   "text": "Bestellung 1"`, "0 passed, 1 failed", "--force"}, "scripts", "push", "text", second, "--live")
	p.expect(0, []string{"text  transform  1"}, "scripts", "list")
	p.expect(3, []string{"--- text, version 1, live", "+++ text, version 2", "- export default e =>", "+   return {text: `Bestellung ${id}`}"}, "scripts", "diff", "text")
	p.expect(3, []string{"+++ " + second}, "scripts", "diff", "text", second)
	p.expect(3, []string{"--- text, version 2", "+++ text, version 1, live"}, "scripts", "diff", "text", "2", "1")
	p.expect(0, nil, "scripts", "diff", "text", "1", "live")
	p.expect(1, []string{"no version"}, "scripts", "diff", "text", "7", "1")
	p.expect(1, []string{"there is none before it"}, "scripts", "rollback", "text")

	if out := p.expect(1, []string{"✗ the id is told", "1 of its 1 tests fail", "--force makes it live anyway"}, "scripts", "live", "text", "2"); strings.Contains(out, `"force"`) {
		t.Errorf("the error speaks of the API's member:\n%s", out)
	}
	p.expect(0, []string{"version 2 is live; it was version 1"}, "scripts", "live", "text", "2", "--force")
	p.expect(0, []string{"version 1 is live; it was version 2"}, "scripts", "rollback", "text")

	out := filepath.Join(dir, "out")
	p.expect(0, []string{"wrote text.js", "wrote text.test.json"}, "scripts", "pull", "--out", out)
	if read(t, filepath.Join(out, "text.js")) != firstText {
		t.Error("the source is another")
	}
	if text, status := p.inFolder(out, "test"); status != 0 || !strings.Contains(text, "1 passed") {
		t.Errorf("what was pulled does not pass: %s", text)
	}
	p.expect(0, []string{"0 files written, 2 unchanged"}, "scripts", "pull", "text", "--out", out)
	p.expect(0, nil, "scripts", "live", "text", "2", "--force")
	p.expect(1, []string{"text.js is different", "nothing was written"}, "scripts", "pull", "--out", out)
	if read(t, filepath.Join(out, "text.js")) != firstText {
		t.Error("it was overwritten")
	}
	p.expect(0, []string{"wrote text.js", "1 file written, 1 unchanged"}, "scripts", "pull", "--out", out, "--force")
	p.expect(0, []string{"wrote text.ts"}, "scripts", "pull", "--out", filepath.Join(dir, "fresh"))
	p.expect(1, []string{`no script "txet"`}, "scripts", "pull", "txet", "--out", out)
	p.expect(1, []string{"there is no script"}, "scripts", "live", "txet", "1")
}

// TestScriptsRollback_NeedsNoForce pushes versions with their own cases, and rolls back.
func TestScriptsRollback_NeedsNoForce(t *testing.T) {
	t.Parallel()
	p, dir := serve(t, t.TempDir()), t.TempDir()
	push := func(n int, want ...string) {
		t.Helper()
		text := fmt.Sprintf("version %d", n)
		source := write(t, dir, fmt.Sprintf("v%d.js", n), fmt.Sprintf("export default () => %q\n", text))
		cases := write(t, dir, fmt.Sprintf("v%d.test.json", n), fmt.Sprintf(`{"cases": [{"name": "is %d", "event": {"type": "a", "data": 1}, "expect": {"body": %q}}]}`, n, text))
		p.expect(0, want, "scripts", "push", "it's", source, "--cases", cases, "--live")
	}
	push(1, "version 1 is live")
	push(2, "version 2 is live")
	broken := write(t, dir, "v3.js", "export default () => 3\n")
	p.expect(1, []string{"this is version 3", `switchhook scripts live 'it'\''s' 3 --force`}, "scripts", "push", "it's", broken, "--live")
	push(4, "version 4 is live")
	p.expect(0, []string{"1 passed, 0 failed", "version 2 is live; it was version 4"}, "scripts", "rollback", "it's") // 3 never was live
	p.expect(0, []string{"version 1 is live; it was version 2"}, "scripts", "rollback", "it's")
	p.expect(1, []string{"there is none before it"}, "scripts", "rollback", "it's")
	out := filepath.Join(dir, "out")
	p.expect(0, []string{"2 files written"}, "scripts", "pull", "--out", out) // of the live version, with its cases
	for _, c := range []struct{ name, want string }{{".js", "version 1"}, {".test.json", "is 1"}} {
		found, err := filepath.Glob(filepath.Join(out, "*"+c.name))
		if err != nil || len(found) != 1 || !strings.Contains(read(t, found[0]), c.want) {
			t.Errorf("%v do not hold %q: %v", found, c.want, err)
		}
	}
	p.expect(0, []string{"version 4 is live; it was version 1"}, "scripts", "live", "it's", "4")

	// The newest version's cases can be changed; it was live, and so is restored although
	// they fail.
	wrong := write(t, dir, "wrong.test.json", `{"cases": [{"name": "wrong", "event": {"type": "a", "data": 1}, "expect": {"body": "no"}}]}`)
	p.expect(0, []string{"version 4 has this source already", "0 passed, 1 failed"}, "scripts", "push", "it's", filepath.Join(dir, "v4.js"), "--cases", wrong)
	p.expect(0, nil, "scripts", "live", "it's", "1")
	p.expect(0, []string{"✗ wrong", "version 4 is live; it was version 1"}, "scripts", "live", "it's", "4")
}

func TestScripts_OddNamesAndOtherAccounts(t *testing.T) {
	t.Parallel()
	p, dir := serve(t, t.TempDir()), t.TempDir()
	file := write(t, dir, "a.expr", "data.n > 1")
	for _, name := range []string{"a?b#c%2F", "ünï cöde", "CON", "x", "X", "-", `..\..\x`} {
		p.expect(0, nil, "scripts", "push", "--live", "--", name, file)
		p.expect(0, []string{"are the same"}, "scripts", "diff", "--", name, file)
	}
	p.expect(0, nil, "scripts", "--account", "acme", "push", "only-there", file, "--live")
	p.expect(1, nil, "scripts", "diff", "only-there")
	p.expect(0, nil, "scripts", "--account", "acme", "diff", "only-there")

	out := filepath.Join(dir, "deep", "out")
	p.expect(0, []string{"7 files written"}, "scripts", "pull", "--out", out)
	files, err := os.ReadDir(out)
	if err != nil || len(files) != 7 {
		t.Errorf("%v %v", files, err)
	}
	if there, _ := os.ReadDir(filepath.Join(dir, "deep")); len(there) != 1 {
		t.Errorf("something was written beside the folder: %v", there)
	}
	// A link in the folder must not lead out of it.
	target := write(t, dir, "mine.txt", "mine")
	if err := os.MkdirAll(filepath.Join(dir, "linked"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "linked", "only-there.expr")); err != nil {
		t.Skip(err)
	}
	p.expect(1, nil, "scripts", "--account", "acme", "pull", "--force", "--out", filepath.Join(dir, "linked"))
	if read(t, target) != "mine" {
		t.Error("written through a link")
	}
}

func TestScriptsCompare_ShowsChanges(t *testing.T) {
	t.Parallel()
	p, dir := serve(t, t.TempDir()), t.TempDir()
	first := write(t, dir, "a.js", firstText)
	p.expect(0, nil, "scripts", "push", "text", first, "--live")
	var lines strings.Builder
	for range 5 {
		lines.WriteString(oneOrder + "\n")
	}
	p.expect(0, nil, "send", "--file", write(t, dir, "events", lines.String()))

	p.expect(0, []string{"5 events, compared with version 1", "5 same, 0 different"}, "scripts", "compare", "text", first)
	out := p.expect(3, []string{"order.created: differs", `-   "text": "Order 1"`, `+   "text": "Bestellung 1"`, "and 3 more", "0 same, 5 different"}, "scripts", "compare", "text", write(t, dir, "b.ts", secondText), "--show", "2")
	if strings.Count(out, "order.created: differs") != 2 {
		t.Error(out)
	}
	p.expect(3, []string{"dropped: no", "5 dropped"}, "scripts", "compare", "text", write(t, dir, "c.js", `export default () => drop("no")`))
	p.expect(1, []string{"error: ", "boom", "5 errors"}, "scripts", "compare", "text", write(t, dir, "d.js", `export default () => { throw new Error("boom") }`))
	p.expect(3, []string{"2 events"}, "scripts", "compare", "text", filepath.Join(dir, "b.ts"), "--last", "2")
	p.expect(0, nil, "scripts", "push", "text", filepath.Join(dir, "b.ts"))
	p.expect(3, []string{"5 different"}, "scripts", "compare", "text")
	p.expect(0, []string{"compared with itself"}, "scripts", "compare", "text", "1")
	p.expect(1, []string{"line 1"}, "scripts", "compare", "text", write(t, dir, "e.js", "export default ("))
	p.expect(1, []string{"subscription"}, "scripts", "compare", "text", "2", "--subscription", "sub_nobody")

	var made struct{ ID string }
	if err := p.api.call(context.Background(), http.MethodPost, "/api/v1/subscriptions", map[string]any{"event": "order.paid", "target_url": "http://127.0.0.1:1/", "transform_script": "text"}, &made); err != nil {
		t.Fatal(err)
	}
	p.expect(0, []string{"0 events"}, "scripts", "compare", "text", "2", "--subscription", made.ID)
}

func TestFileNames(t *testing.T) {
	list := []api.Script{{Name: "plain"}, {Name: "../../etc/passwd"}, {Name: ".."}, {Name: "a b"}, {Name: "a?b"}, {Name: "x"}, {Name: "X"}, {Name: "nul"}, {Name: "aux.old"}, {Name: "grün-1.2_3"}, {Name: strings.Repeat("ü", 50)}, {Name: "-"}, {Name: "a.test"}, {Name: "\u202egnp"}}
	names := fileNames(list)
	seen := map[string]bool{}
	for i, name := range names {
		if seen[strings.ToLower(name)] || !filepath.IsLocal(name) || strings.ContainsAny(name, `/\ ?:*"<>|`) || strings.HasPrefix(name, ".") || len(name) > 100 || deviceName.MatchString(name) {
			t.Errorf("%q becomes %q", list[i].Name, name)
		}
		seen[strings.ToLower(name)] = true
	}
	if names[0] != "plain" || names[9] != "grün-1.2_3" {
		t.Errorf("%q", names)
	}
}

func TestPull_DetectsTypeScript(t *testing.T) {
	none := func(string) bool { return false }
	for _, c := range []struct{ source, want string }{
		{firstText, ".js"}, {secondText, ".ts"},
		{"function transform(event, request) { return { kind: event.type, as: 1 } }", ".js"},
		{"interface Order { id: number }\nexport default (e) => e.data", ".ts"},
		{"type T = string\nexport default (e) => e", ".ts"},
		{"export default e => ({type: e.type, a: e ? e.x : string(e)})", ".js"},
	} {
		if got := transformEnding(c.source, none); got != c.want {
			t.Errorf("%s for %s", got, c.source)
		}
	}
	if transformEnding(firstText, func(e string) bool { return e == ".ts" }) != ".ts" || transformEnding(secondText, func(e string) bool { return e == ".js" }) != ".js" {
		t.Error("the file that is there must count")
	}
}

func TestPush_CasesFileFormat(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "one.json", `{"id": 7}`)
	c := scriptsPushCommand{Cases: write(t, dir, "a.test.yaml", "transform: x.js\ncases:\n- name: a\n  event: {file: one.json, type: a.b}\n  expect: {body: {id: 7}}\n")}
	text, err := c.readCases()
	var list []struct {
		Event struct{ Data json.RawMessage }
	}
	if err != nil || json.Unmarshal(text, &list) != nil || string(list[0].Event.Data) != `{"id":7}` {
		t.Errorf("%v %s", err, text)
	}
}
