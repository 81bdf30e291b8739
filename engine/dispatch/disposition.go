package dispatch

import (
	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
)

// dispositionOf returns the disposition of a delivery that an attempt left in state s.
func dispositionOf(s engine.State) dispatchqueue.Disposition {
	switch s {
	case engine.StatePending:
		return dispatchqueue.NotAttempted
	case engine.StateRetrying:
		return dispatchqueue.Failed
	}
	return dispatchqueue.Finished
}
