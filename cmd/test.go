package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/scripteval"
	"switchhook/scripts/scripttest"
)

type testCommand struct {
	Paths   []string `arg:"" optional:"" help:"Files of test cases, or folders to search for *.test.json, *.test.yaml and *.test.yml; by default the current folder."`
	Only    string   `name:"run" help:"Run only the cases whose names match." placeholder:"REGEX"`
	Update  bool     `help:"Write the results into the expectations of failing cases; an error only if the case expects one, or expects nothing."`
	Watch   bool     `help:"Run again whenever a file of cases, a script or a sample changes."`
	JSON    bool     `name:"json" help:"Print JSON."`
	JUnit   string   `name:"junit" help:"Write a JUnit report too." placeholder:"FILE"`
	Verbose bool     `help:"Print the console of passing cases too, and log sandbox activity."`
}

// The exit statuses of a test run.
const (
	testsFailed = 1
	testsBroken = 2
)

// Help implements kong.HelpProvider.
func (*testCommand) Help() string {
	return `A file of cases names its scripts in "filter" and "transform"; left out, those for a.test.json are a.expr, a.js and a.ts, or else filter.expr, transform.js and transform.ts beside it.

  {"cases": [{"name": "small orders do not match",
              "event": {"type": "order.created", "data": {"total": 5}},
              "expect": {"matches": false}}]}

"expect" takes matches, body, body_contains, method, path, query, headers, dropped, error and console.

Exit status: 0 every case passed; 1 a case failed; 2 there are no cases, a file can't be read, or a script does not compile.`
}

const watchPace = 500 * time.Millisecond

// Run runs the tests.
func (c *testCommand) Run(ctx context.Context) error {
	broken := func(err error) error { return &statusError{testsBroken, err} }
	only, err := regexp.Compile(c.Only)
	if err != nil {
		return broken(fmt.Errorf("--run: %w", err))
	}
	if c.Watch && (c.Update || c.JSON) {
		return broken(errors.New("--watch goes neither with --update nor with --json"))
	}
	if len(c.Paths) == 0 {
		c.Paths = []string{"."}
	}
	pool, err := startSandbox(c.Verbose)
	if err != nil {
		return broken(err)
	}
	defer pool.Close()
	t := &tester{runner: pool, only: only, update: c.Update, paths: c.Paths}
	if c.Watch {
		ticker := time.NewTicker(watchPace)
		defer ticker.Stop()
		return t.watch(ctx, ticker.C, c.report)
	}
	results, err := t.run(ctx)
	if err != nil {
		return broken(err)
	}
	if err := c.report(results); err != nil {
		return broken(err)
	}
	return results.status()
}

// report prints results, and writes them to the requested files.
func (c *testCommand) report(r *testResults) error {
	if c.JUnit != "" {
		if err := writeJUnit(c.JUnit, r); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(r)
	}
	_, err := os.Stdout.WriteString(r.text(c.Verbose, colours()))
	return err
}

// tester runs the cases of files.
type tester struct {
	runner scripteval.Transformer
	only   *regexp.Regexp
	update bool
	paths  []string
}

// testResults holds the results of all files.
type testResults struct {
	Passed     int          `json:"passed"`
	Failed     int          `json:"failed"`
	Broken     int          `json:"broken"`  // files that were not run
	Updated    int          `json:"updated"` // cases
	DurationMS float64      `json:"duration_ms"`
	Files      []fileResult `json:"files"`
}

// fileResult holds the results of one test case file.
type fileResult struct {
	Path    string              `json:"path"`
	Error   string              `json:"error,omitempty"` // reason why it was not run
	Updated []scripttest.Change `json:"updated,omitempty"`
	Report  *scripts.TestReport `json:"report,omitempty"`

	sources []string
	left    bool              // --update left failing cases unchanged
	scripts map[string]string // the paths of "filter" and "transform"
}

// status returns the error with the exit status of the results.
func (r *testResults) status() error {
	switch {
	case r.Broken > 0:
		return &statusError{status: testsBroken}
	case r.Failed > 0:
		return &statusError{status: testsFailed}
	}
	return nil
}

// run runs all files once. The error means that there is nothing to run.
func (t *tester) run(ctx context.Context) (*testResults, error) {
	began := time.Now()
	files, err := scripttest.Find(t.paths...)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no *.test.json, *.test.yaml or *.test.yml in %s", strings.Join(t.paths, ", "))
	}
	r := &testResults{Files: make([]fileResult, 0, len(files))}
	for _, path := range files {
		f := t.runFile(ctx, path)
		if f.Error != "" {
			r.Broken++
		}
		if f.Report != nil {
			r.Passed += f.Report.Passed
			r.Failed += f.Report.Failed
		}
		r.Updated += len(f.Updated)
		r.Files = append(r.Files, f)
	}
	r.DurationMS = float64(time.Since(began).Microseconds()) / 1000
	if r.Passed+r.Failed+r.Broken == 0 {
		return nil, errors.New("no case was run: the files hold none, or --run matches none")
	}
	return r, nil
}

func (t *tester) runFile(ctx context.Context, path string) (r fileResult) {
	r, file := t.once(ctx, path)
	if !t.update || r.Error != "" || r.Report.Failed == 0 {
		return r
	}
	text, updated, err := file.Update(r.Report)
	if err == nil && len(updated) > 0 {
		err = overwrite(path, text)
	}
	if err != nil {
		r.Error = err.Error()
		return r
	}
	r, _ = t.once(ctx, path) // verifies that the written file passes
	r.Updated = updated
	r.left = r.Report != nil && r.Report.Failed > 0
	return r
}

func (t *tester) once(ctx context.Context, path string) (fileResult, *scripttest.File) {
	r := fileResult{Path: path}
	file, err := scripttest.Load(path)
	r.sources = file.Sources
	if err != nil {
		r.Error = err.Error()
		return r, file
	}
	r.scripts = map[string]string{"filter": file.FilterPath, "transform": file.TransformPath}
	chosen := file.Suite
	chosen.Cases = slices.DeleteFunc(slices.Clone(chosen.Cases), func(c scripttest.Case) bool { return !t.only.MatchString(c.Name) })
	report := scripttest.Run(ctx, t.runner, chosen)
	r.Report = &report
	if b := report.Broken; b != nil {
		where := r.scripts[b.Script]
		if where == "" {
			where = path + ", " + b.Script + "_source"
		}
		r.Error = fmt.Sprintf("%s: %s", where, b.Error)
		if b.Error.Snippet != "" {
			r.Error += "\n" + b.Error.Snippet
		}
	}
	return r, file
}

// overwrite replaces a file atomically, so that a full disk does not destroy it.
func overwrite(path string, text []byte) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(target), ".switchhook-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Close())
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), target)
}

// watch runs all files, and again after each tick at which one of them has changed, until
// ctx ends.
func (t *tester) watch(ctx context.Context, ticks <-chan time.Time, report func(*testResults) error) error {
	for {
		before := t.stamps(nil) // taken first, so that changes during the run count
		r, err := t.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			for path, stamp := range t.stamps(r) {
				if _, known := before[path]; !known {
					before[path] = stamp
				}
			}
			err = report(r)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "switchhook: %v\n", err)
		}
		fmt.Fprintln(os.Stderr, "watching; Ctrl-C ends")
		for changed := false; !changed; {
			select {
			case <-ctx.Done():
				return nil
			case <-ticks:
				now := t.stamps(r)
				for path, stamp := range now {
					changed = changed || before[path] != stamp
				}
				changed = changed || len(now) != len(before)
			}
		}
	}
}

// stamp changes when a file does.
type stamp struct {
	at   time.Time
	size int64
}

// stamps returns the stamps of the test case files, of the files read for r, and of their
// folders, where a script may appear or disappear. A missing file has the zero stamp.
func (t *tester) stamps(r *testResults) map[string]stamp {
	files, _ := scripttest.Find(t.paths...)
	if r != nil {
		for _, f := range r.Files {
			files = append(files, f.sources...)
		}
	}
	found := map[string]stamp{}
	for _, file := range files {
		for _, path := range []string{file, filepath.Dir(file)} {
			found[path] = stamp{}
			if info, err := os.Stat(path); err == nil {
				found[path] = stamp{info.ModTime(), info.Size()}
			}
		}
	}
	return found
}
