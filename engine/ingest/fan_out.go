package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/dispatch"
	"switchhook/engine/fairlimit"
	"switchhook/engine/telemetry"
)

const (
	// fewDeliveries is the number of deliveries that a request leads to without a place.
	fewDeliveries = 4096
	// maxListDeliveries is that of a list of events at most. (One event may have more: an account has
	// no more subscriptions than fit into memory.)
	maxListDeliveries = 250_000
	// fanOutPlaces is the number of requests with many deliveries at the same time. Each has some
	// megabytes in memory until its deliveries are queued or stored.
	fanOutPlaces, accountFanOutPlaces = 8, 4
	fanOutWait                        = 30 * time.Second
)

func newFanOut(metrics prometheus.Registerer) *fairlimit.Limiter {
	l := fairlimit.New(fairlimit.Limits{Units: fanOutPlaces, PerAccount: accountFanOutPlaces, Wait: fanOutWait})
	metrics.MustRegister(telemetry.NewPlacesCollector("fan_out", l))
	return l
}

// fanOut counts the deliveries that a request leads to, and takes a place if they are many.
type fanOut struct {
	places     *fairlimit.Limiter
	deliveries int
	release    func() // nil: it has no place
}

// add counts the deliveries of one of a number of events. before is called before it waits for a place.
// Error: CodeInvalid, CodeBusy.
func (f *fanOut) add(ctx context.Context, prepared *dispatch.PreparedEvent, events int, before func()) error {
	ev := prepared.Event
	f.deliveries += len(ev.Targets)
	if f.deliveries <= fewDeliveries || engine.Operational(ev.Type) {
		return nil
	}
	if events > 1 && f.deliveries > maxListDeliveries {
		return engine.InvalidField("events", engine.FieldTooMany, "of the list match so many subscriptions that they lead to more than %d deliveries; send fewer in a request", maxListDeliveries)
	}
	if f.release != nil {
		return nil
	}
	before()
	var err error
	if f.release, err = f.places.Acquire(ctx, ev.Account, "", 1); err != nil {
		return &engine.Error{Code: engine.CodeBusy, Wait: time.Second, Message: fmt.Sprintf(
			"too many requests with more than %d deliveries are in progress, and this one had no turn for %s; nothing was stored, use fewer connections", fewDeliveries, fanOutWait)}
	}
	return nil
}

// end gives the place back.
func (f *fanOut) end() {
	if f.release != nil {
		f.release()
	}
}
