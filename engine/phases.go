package engine

// The phases in which an attempt can fail, as in Attempt.Phase, besides those of package target.
const (
	PhaseEvent     = "event"     // the event could not be read
	PhaseTransform = "transform" // the script failed
	PhaseRefused   = "refused"   // the target guard rejected the address
	PhaseConnect   = "connect"   // no connection
	PhaseHTTP      = "http"      // a response other than 2xx
)
