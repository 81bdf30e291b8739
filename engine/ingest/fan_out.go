package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
	"switchhook/engine/lifecycle"
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

// errManyDeliveries says that a request needs a place before its events are prepared. While it waits they
// must have no ids: these would keep the watermark, which all accounts share, from rising.
var errManyDeliveries = errors.New("more deliveries than are allowed without a place")

// add counts the deliveries of one of a number of events. Errors: errManyDeliveries, CodeInvalid.
func (f *fanOut) add(ev *engine.Event, events int) error {
	f.deliveries += len(ev.Targets)
	switch {
	case f.deliveries <= fewDeliveries || engine.Operational(ev.Type):
		return nil
	case events > 1 && f.deliveries > maxListDeliveries:
		return engine.InvalidField("events", engine.FieldTooMany,
			"of the list match so many subscriptions that they lead to more than %d deliveries; send fewer in a request", maxListDeliveries)
	case f.release == nil:
		return errManyDeliveries
	}
	return nil
}

// acquire waits for a place; ctx ends when the router stops. Errors: CodeBusy, CodeUnavailable.
func (f *fanOut) acquire(ctx context.Context, account string) (err error) {
	f.release, err = f.places.Acquire(ctx, account, "", 1)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return lifecycle.ErrStopping()
	}
	return &engine.Error{Code: engine.CodeBusy, Wait: time.Second, Message: fmt.Sprintf(
		"too many requests with more than %d deliveries are in progress, and this one had no place for %s; nothing was stored, use fewer connections",
		fewDeliveries, fanOutWait)}
}

// end gives the place back.
func (f *fanOut) end() {
	if f.release != nil {
		f.release()
	}
}
