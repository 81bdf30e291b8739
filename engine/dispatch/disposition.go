package dispatch

import (
	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
)

// dispositionOf is what a line makes of a delivery that got into this state.
func dispositionOf(s engine.State) dispatchqueue.Disposition {
	switch s {
	case engine.StatePending:
		return dispatchqueue.NotAttempted
	case engine.StateRetrying:
		return dispatchqueue.Failed
	}
	return dispatchqueue.Finished
}
