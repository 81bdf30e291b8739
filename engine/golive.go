package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/suite"
)

const (
	suiteTime  = 30 * time.Second // for all cases of a script
	reportBody = 16 << 10         // bytes of a body that a report shows
)

// TestScript runs a script's cases against one of its versions (0: the live one), or
// against source where that is not empty. Errors: CodeInvalid, CodeNotFound.
func (e *Engine) TestScript(ctx context.Context, account, idOrName string, number int, source string) (*suite.Report, error) {
	s, err := e.Script(account, idOrName)
	if err != nil {
		return nil, err
	}
	if source == "" {
		v, err := e.ScriptVersion(ctx, account, idOrName, number)
		if err != nil {
			return nil, err
		}
		source = v.Source
	}
	return e.runCases(ctx, s, source)
}

func (e *Engine) runCases(ctx context.Context, s *Script, source string) (*suite.Report, error) {
	cases, err := parseCases(s.Cases)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, suiteTime)
	defer cancel()
	run := suite.Suite{Cases: cases, KeepBody: reportBody}
	if s.Kind == KindFilter {
		run.Filter = source
	} else {
		run.Transform = source
	}
	report := suite.Run(ctx, e.lab, run)
	if why := notRun(&report); why != "" {
		return nil, &Error{Code: CodeUnavailable, Message: "the cases could not be run: " + why}
	}
	return &report, nil
}

// notRun says why the sandbox did not run a case, which says nothing of the script; "" if
// it ran them all.
func notRun(report *suite.Report) string {
	if report.Broken != nil && !report.Broken.Error.Guilty() {
		return report.Broken.Error.Message
	}
	for i := range report.Cases {
		if err := report.Cases[i].Got.Error; err != nil && !err.Guilty() {
			return err.Message
		}
	}
	return ""
}

func parseCases(raw []byte) ([]suite.Case, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	cases, err := suite.ParseCases(raw)
	if err != nil {
		var wrong *suite.ParseError
		if errors.As(err, &wrong) && wrong.Path != "" {
			return nil, Invalid(wrong.Path, "%s", wrong.Message)
		}
		return nil, Invalid("cases", "%v", err)
	}
	if len(cases) > maxScriptCases {
		return nil, Invalid("cases", "holds %d cases, %d are allowed", len(cases), maxScriptCases)
	}
	return cases, nil
}

// SetScriptLive makes a version of a script live: forth to a new one or back to an old
// one. Subscriptions that pin no version use it from then on; what is on its way is
// neither lost nor sent twice. Unless force is set, the script's cases must pass:
// otherwise the error is a CodeConflict with their Report. version is the expected one of
// the script's record or AnyVersion. Other errors: CodeNotFound, CodeStale, and
// CodeInvalid where the version does not suit a subscription's event types.
func (e *Engine) SetScriptLive(ctx context.Context, account, idOrName string, number int, version int64, force bool) (*Script, *suite.Report, error) {
	s, err := e.Script(account, idOrName)
	if err != nil {
		return nil, nil, err
	}
	if number < 1 {
		return nil, nil, Invalid("version", "must be the number of a version, 1 or above")
	}
	v, err := e.version(ctx, ScriptRef{s.ID, number})
	if err != nil {
		return nil, nil, err
	}
	if err := e.suits(s, v.Source); err != nil {
		return nil, nil, err
	}
	report, err := e.runCases(ctx, s, v.Source)
	if err != nil {
		return nil, nil, err
	}
	if !report.OK() && !force {
		return nil, report, failedCases(fmt.Sprintf("version %d", number), `it does not go live; mend it, or send "force": true`, report)
	}
	e.registry.changes.Lock()
	defer e.registry.changes.Unlock()
	// The cases ran without the lock; a change in between is told, not overwritten.
	now, err := e.Script(account, s.ID.Format(ScriptPrefix))
	if err != nil {
		return nil, nil, err
	}
	if version != AnyVersion && version != now.Version {
		return nil, nil, stale("script", now.Version, version)
	}
	if now.Live == number {
		return now, report, nil
	}
	live, err := e.goLive(ctx, now, number)
	return live, report, err
}

// failedCases makes the error for a source that fails its cases; so says what follows.
func failedCases(what, so string, report *suite.Report) *Error {
	if report.Broken != nil {
		return &Error{Code: CodeConflict, Report: report, Script: report.Broken.Error, Message: what + " does not compile any more: " + report.Broken.Error.Message}
	}
	return &Error{
		Code: CodeConflict, Report: report,
		Message: fmt.Sprintf("%s fails %d of its %d cases, so %s", what, report.Failed, len(report.Cases), so),
	}
}

// suits checks a filter against the schemas of the event types of each subscription that
// would use it.
func (e *Engine) suits(s *Script, source string) error {
	if s.Kind != KindFilter {
		return nil
	}
	for _, sub := range e.ScriptUsers(s.ID) {
		if sub.FilterScript.Version != 0 {
			continue
		}
		if _, err := e.filters.Compile(source, e.registry.schemas(sub.Events)...); err != nil {
			var se *scripts.Error
			errors.As(err, &se)
			return &Error{
				Code: CodeInvalid, Field: "version", Script: se,
				Message: fmt.Sprintf("does not suit the event types of %s: %v", sub.ID.Format(SubscriptionPrefix), err),
			}
		}
	}
	return nil
}
