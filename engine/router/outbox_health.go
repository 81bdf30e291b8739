package router

import (
	"time"

	"switchhook/engine"
)

// noteFilterStreak counts an event on which the filter failed. quiet keeps the operational
// event back.
func (o *Outbox) noteFilterStreak(r *compiledSubscription, quiet bool) {
	text := "the filter fails, which counts as no match; filter_errors say more"
	if r.filtering.fail(o.life.now(), engine.CauseFilter, text) == failingAfter && !quiet {
		o.announceFailing(r, r.filtering, r.filterRef)
	}
}

func (o *Outbox) announceFailing(r *compiledSubscription, s *streak, ref engine.ScriptRef) {
	h := s.over(engine.Health{}, 1)
	script := ""
	if ref.Script != 0 {
		script = ref.Script.Format(engine.ScriptPrefix)
	}
	o.emit(r.sub.Account, typeFailing, struct {
		subscriptionRef
		Kind         engine.HealthCause `json:"kind"`
		Script       string             `json:"script_id,omitempty"`
		Version      int                `json:"script_version,omitempty"`
		FailingSince time.Time          `json:"failing_since"`
		Failures     int                `json:"failures"`
		LastError    string             `json:"last_error"`
		At           time.Time          `json:"at"`
	}{subscriptionRefOf(r.sub), h.Cause, script, ref.Version, h.FailingSince, h.Failures, h.LastError, o.life.now()})
}
