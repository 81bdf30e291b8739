package router

import (
	"fmt"
	"switchhook/engine"
)

// The phases in which an attempt can fail, as Attempt.Phase names them, besides those of
// package target.
const (
	phaseEvent     = "event"     // the event could not be read
	phaseTransform = "transform" // the script failed
	phaseRefused   = "refused"   // the target guard closed the address
	phaseConnect   = "connect"   // no connection
	phaseHTTP      = "http"      // an answer other than 2xx
)

const subscriptionDeleted = "the subscription was deleted"

func withBatchIndex(err *engine.Error, i, n int) error {
	if n == 1 || err.Field == "" {
		return err
	}
	copied := *err
	copied.Field = fmt.Sprintf("events[%d].%s", i, err.Field)
	return &copied
}

const (
	maxReadBody = 64 << 10 // bytes of an answer that are read, so that its connection can be used again
)
