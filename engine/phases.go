package engine

// The phases in which an attempt can fail, as Attempt.Phase names them, besides those of
// package target.
const (
	PhaseEvent     = "event"     // the event could not be read
	PhaseTransform = "transform" // the script failed
	PhaseRefused   = "refused"   // the target guard closed the address
	PhaseConnect   = "connect"   // no connection
	PhaseHTTP      = "http"      // an answer other than 2xx
)
