// Package examples_test checks the examples and the README: it runs the scripts' cases, the
// programs against a real router, and the README's commands.
package examples_test

import (
	"os"
	"testing"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
	"switchhook/scripts/scripttest"
)

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	os.Exit(m.Run())
}

func startPool(t *testing.T) *sandbox.Pool {
	t.Helper()
	pool, err := sandbox.Start(sandbox.Config{Processes: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

func TestScripts_PassTheirCases(t *testing.T) {
	t.Parallel()
	pool := startPool(t)
	files, err := scripttest.Find("scripts")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files of cases: %v", len(files), err)
	}
	for _, path := range files {
		file, err := scripttest.Load(path)
		if err != nil {
			t.Error(err)
			continue
		}
		report := scripttest.Run(t.Context(), pool, file.Suite)
		if report.Broken != nil {
			t.Errorf("%s: the %s does not compile: %v\n%s", path, report.Broken.Script, report.Broken.Error, report.Broken.Error.Snippet)
		}
		for _, c := range report.Cases {
			for _, f := range c.Failures {
				t.Errorf("%s: %s: %s %s\n%s", path, c.Name, f.Expected, f.Message, f.Diff)
			}
		}
	}
}

// TestLedger_EntriesHaveOwnURL covers transforms that set the target's path, which cases
// cannot express.
func TestLedger_EntriesHaveOwnURL(t *testing.T) {
	t.Parallel()
	pool := startPool(t)
	file, err := scripttest.Load("scripts/stripe-invoice-to-ledger/cases.test.json")
	if err != nil {
		t.Fatal(err)
	}
	program, err := pool.Compile(t.Context(), file.Suite.Transform)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ target, want string }{{"/", "/in_1Lighthouse"}, {"/ledger", "/ledger/in_1Lighthouse"}, {"/ledger/", "/ledger/in_1Lighthouse"}} {
		got, err := pool.Run(t.Context(), program, file.Suite.Cases[0].Event.Event(), scripts.Request{Method: "POST", Path: c.target})
		if err != nil {
			t.Fatal(err)
		}
		if got.Request == nil || got.Request.Method != "PUT" || got.Request.Path != c.want {
			t.Errorf("%s: %+v, wanted PUT %s", c.target, got.Request, c.want)
		}
	}
}
