package engine

import (
	"strings"
)

// OperationalPrefix begins the event types that the router itself publishes, to the
// account concerned. Nobody else may, and "*" does not match them: who asks for all
// events of a shop did not ask for these.
const OperationalPrefix = "switchhook."

// Operational tells whether an event type is the router's own.
func Operational(eventType string) bool { return strings.HasPrefix(eventType, OperationalPrefix) }
