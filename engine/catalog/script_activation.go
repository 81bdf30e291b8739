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
	// reactivationTimeout is how long activating an earlier version waits for a busy sandbox.
	reactivationTimeout = 5 * time.Second
)

// TestScript runs the test cases of a script's version (0: the live one) against it or, if source
// is not empty, those of the newest version against source. Errors: CodeInvalid, CodeNotFound.
func (c *Catalog) TestScript(ctx context.Context, account, idOrName string, number int, source string) (*scripts.TestReport, error) {
	s, err := c.Script(account, idOrName)
	if err != nil {
		return nil, err
	}
	cases := s.Cases
	if source == "" {
		v, err := c.ScriptVersion(ctx, account, idOrName, number)
		if err != nil {
			return nil, err
		}
		source, cases = v.Source, v.Cases
	}
	return c.runCases(ctx, s, cases, source)
}

func (c *Catalog) runCases(ctx context.Context, s *engine.Script, raw []byte, source string) (*scripts.TestReport, error) {
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
	report := scripttest.Run(ctx, c.Transformer(s.Account), run)
	if why := infrastructureError(&report); why != "" {
		return nil, &engine.Error{Code: engine.CodeUnavailable, Message: "the cases could not be run: " + why}
	}
	return &report, nil
}

// infrastructureError returns why the sandbox did not run a case, which is not the script's fault;
// "" if it ran them all.
func infrastructureError(report *scripts.TestReport) string {
	if report.Broken != nil && !report.Broken.Error.ScriptFault() {
		return report.Broken.Error.Message
	}
	for i := range report.Cases {
		if err := report.Cases[i].Got.Error; err != nil && !err.ScriptFault() {
			return err.Message
		}
	}
	return ""
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

// SetScriptLive activates a version of a script, a new one or an earlier one. Subscriptions that
// pin no version use it from then on; deliveries in flight are neither lost nor sent twice. Unless
// force is set, the version's test cases must pass: otherwise the error is a CodeConflict with
// their Report. A version that was live before has passed them, or was forced: it only has to
// compile, since a rollback must work when all else fails; the Report, which may be nil then, is
// for information. version is the expected one of the script's record or AnyVersion. Other errors:
// CodeNotFound, CodeStale, and CodeInvalid if a version that was never live does not fit a
// subscription's event types.
func (c *Catalog) SetScriptLive(ctx context.Context, account, idOrName string, number int, version int64, force bool) (*engine.Script, *scripts.TestReport, error) {
	s, err := c.Script(account, idOrName)
	if err != nil {
		return nil, nil, err
	}
	if number < 1 {
		return nil, nil, engine.Invalid("version", "must be the number of a version, 1 or above")
	}
	v, err := c.store.ScriptVersion(ctx, s.ID, number)
	if err != nil {
		return nil, nil, err
	}
	if !v.LiveAt.IsZero() {
		return c.reactivateVersion(ctx, account, s, v, version, force)
	}
	if err := c.validateForSubscribers(s, v.Source); err != nil {
		return nil, nil, err
	}
	report, err := c.runCases(ctx, s, v.Cases, v.Source)
	if err != nil {
		return nil, nil, err
	}
	if !report.OK() && !force {
		return nil, report, testFailure(fmt.Sprintf("version %d", number), notActivatedHint, report)
	}
	live, err := c.switchLive(ctx, account, s.ID, number, version)
	return live, report, err
}

// notActivatedHint completes the error for a version whose test cases fail.
const notActivatedHint = `it does not go live; mend it, or send "force": true`

// reactivateVersion activates an earlier version. Its test cases run afterwards: they may take long, and
// the version to be replaced may keep the sandbox busy.
func (c *Catalog) reactivateVersion(ctx context.Context, account string, s *engine.Script, v *engine.ScriptVersion, version int64, force bool) (*engine.Script, *scripts.TestReport, error) {
	compiling, cancel := context.WithTimeout(ctx, reactivationTimeout)
	defer cancel()
	var se *scripts.Error
	if _, err := c.CompileScript(compiling, s, v.Source); errors.As(err, &se) && se.ScriptFault() && !force {
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Script: se, Message: fmt.Sprintf("version %d does not compile any more, so %s: %s", v.Number, notActivatedHint, se.Message)}
	}
	live, err := c.switchLive(ctx, account, s.ID, v.Number, version)
	if err != nil {
		return nil, nil, err
	}
	report, err := c.runCases(ctx, s, v.Cases, v.Source)
	if err != nil {
		c.log.Warn("a version is live again whose cases could not be run", "script_id", s.ID.Format(engine.ScriptPrefix), "version", v.Number, "error", err)
	}
	return live, report, nil
}

// switchLive activates a version whose test cases ran without the lock; a change in between is an
// error, not overwritten.
func (c *Catalog) switchLive(ctx context.Context, account string, id engine.ID, number int, version int64) (*engine.Script, error) {
	c.registry.changes.Lock()
	defer c.registry.changes.Unlock()
	now, err := c.Script(account, id.Format(engine.ScriptPrefix))
	if err != nil {
		return nil, err
	}
	if version != AnyVersion && version != now.Version {
		return nil, staleVersion("script", now.Version, version)
	}
	if now.Live == number {
		return now, nil
	}
	return c.activate(ctx, now, number)
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

// validateForSubscribers checks a filter against the schemas of the event types of each
// subscription that would use it.
func (c *Catalog) validateForSubscribers(s *engine.Script, source string) error {
	if s.Kind != engine.KindFilter {
		return nil
	}
	for _, sub := range c.ScriptUsers(s.ID) {
		if sub.FilterScript.Version != 0 {
			continue
		}
		if _, err := c.filters.Compile(source, c.registry.schemas(sub.Events)...); err != nil {
			var se *scripts.Error
			errors.As(err, &se)
			return &engine.Error{
				Code: engine.CodeInvalid, Field: "version", Script: se,
				Message: fmt.Sprintf("does not suit the event types of %s: %v", sub.ID.Format(engine.SubscriptionPrefix), err),
			}
		}
	}
	return nil
}
