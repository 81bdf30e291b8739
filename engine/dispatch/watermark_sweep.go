package dispatch

import (
	"switchhook/engine"
	"time"
)

// lateAfter is how long a delivery may wait without a row; then one is written, so that crash
// recovery need not look further back. What is attempted earlier is written once, with its outcome.
const lateAfter = soon

const sweepEvery = 250 * time.Millisecond

// SweepLoop runs Sweep until the router stops.
func (d *Dispatcher) SweepLoop() {
	d.life.RunEvery(sweepEvery, func() { d.Sweep(d.cfg.Now().Add(-lateAfter)) })
}

// Sweep raises the watermark, and writes rows for deliveries of events older than olderThan that
// have none.
func (d *Dispatcher) Sweep(olderThan time.Time) {
	watermark, late := d.tracker.Sweep(olderThan)
	if watermark > d.watermark {
		d.watermark = watermark
		d.store.SetWatermark(d.cfg.Node, watermark)
	}
	for _, f := range late {
		for _, slot := range d.tracker.Missing(f) {
			d.RecordOutcome(&engine.Outcome{ID: engine.DeliveryID{Event: f.ID, Subscription: f.Targets[slot]}, State: engine.StatePending}, func() { d.tracker.Record(f, slot) })
		}
	}
}
