package outbox

import (
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
)

// CountFilterFailure counts an event on which the filter failed. quiet suppresses the operational
// event.
func (o *Outbox) CountFilterFailure(r *catalog.CompiledSubscription, quiet bool) {
	text := "the filter fails, which counts as no match; filter_errors say more"
	if r.Filter.Streak.Fail(o.life.Now(), engine.CauseFilter, text) && !quiet {
		o.EmitFailing(r, r.Filter.Streak, r.Filter.Ref)
	}
}

// EmitFailing notifies the account that a transform or filter fails on every event.
func (o *Outbox) EmitFailing(r *catalog.CompiledSubscription, s *catalog.Streak, ref engine.ScriptRef) {
	h := s.Over(engine.Health{}, 1)
	script := ""
	if ref.Script != 0 {
		script = ref.Script.Format(engine.ScriptPrefix)
	}
	o.emit(r.Sub.Account, engine.TypeFailing, 0, struct {
		subscriptionRef
		Kind         engine.HealthCause `json:"kind"`
		Script       string             `json:"script_id,omitempty"`
		Version      int                `json:"script_version,omitempty"`
		FailingSince time.Time          `json:"failing_since"`
		Failures     int                `json:"failures"`
		LastError    string             `json:"last_error"`
		At           time.Time          `json:"at"`
	}{subscriptionRefOf(r.Sub), h.Cause, script, ref.Version, h.FailingSince, h.Failures, h.LastError, o.life.Now()})
}
