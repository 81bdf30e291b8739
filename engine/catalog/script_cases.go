package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/scripttest"
)

const (
	testTimeout   = 30 * time.Second // for all cases of a script
	maxReportBody = 16 << 10         // bytes of a body in a report
)

// TestScript runs the test cases of a script's version (0: the live one) against it or, if source
// is not empty, those of the newest version against source. Errors: CodeInvalid, CodeNotFound.
func (reg *ScriptRegistry) TestScript(ctx context.Context, account, idOrName string, number int, source string) (*scripts.TestReport, error) {
	s, err := reg.Script(account, idOrName)
	if err != nil {
		return nil, err
	}
	if source != "" {
		s, err = reg.WithCases(ctx, s)
		if err != nil {
			return nil, err
		}
		return reg.runCases(ctx, s, s.Cases, source)
	}
	v, err := reg.ScriptVersion(ctx, account, idOrName, number)
	if err != nil {
		return nil, err
	}
	return reg.runCases(ctx, s, v.Cases, v.Source)
}

// WithCases returns a copy of a script with its Cases, read from the store.
func (reg *ScriptRegistry) WithCases(ctx context.Context, s *engine.Script) (*engine.Script, error) {
	whole := *s
	var err error
	whole.Cases, err = reg.store.ScriptCases(ctx, s.ID)
	return &whole, err
}

func (reg *ScriptRegistry) runCases(ctx context.Context, s *engine.Script, raw []byte, source string) (*scripts.TestReport, error) {
	cases, err := parseCases(raw)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	run := scripttest.Suite{Cases: cases, KeepBody: maxReportBody}
	if s.Kind == engine.KindFilter {
		run.Filter = source
	} else {
		run.Transform = source
	}
	report := scripttest.Run(ctx, reg.Transformer(s.Account), run)
	if why := infrastructureError(&report); why != nil {
		return nil, &engine.Error{Code: notRunCode(why), Message: "the cases could not be run: " + why.Message}
	}
	return &report, nil
}

// infrastructureError returns why the sandbox did not run a case, which is not the script's fault;
// nil if it ran them all.
func infrastructureError(report *scripts.TestReport) *scripts.Error {
	if report.Broken != nil && !report.Broken.Error.ScriptFault() {
		return report.Broken.Error
	}
	for i := range report.Cases {
		if err := report.Cases[i].Got.Error; err != nil && !err.ScriptFault() {
			return err
		}
	}
	return nil
}

func parseCases(raw []byte) ([]scripttest.Case, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	cases, err := scripttest.ParseCases(raw)
	if err != nil {
		var wrong *scripttest.ParseError
		if errors.As(err, &wrong) && wrong.Path != "" {
			return nil, engine.Invalid(wrong.Path, "%s", wrong.Message)
		}
		return nil, engine.Invalid("cases", "%v", err)
	}
	if len(cases) > engine.MaxScriptCases {
		return nil, engine.InvalidField("cases", engine.FieldTooMany, "holds %d cases, %d are allowed", len(cases), engine.MaxScriptCases)
	}
	return cases, nil
}

// testFailure returns the error for a source whose test cases fail; so completes the message.
func testFailure(what, so string, report *scripts.TestReport) *engine.Error {
	if report.Broken != nil {
		return &engine.Error{Code: engine.CodeConflict, Report: report, Script: report.Broken.Error, Message: what + " does not compile any more: " + report.Broken.Error.Message}
	}
	return &engine.Error{
		Code: engine.CodeConflict, Report: report,
		Message: fmt.Sprintf("%s fails %d of its %d cases, so %s", what, report.Failed, len(report.Cases), so),
	}
}
