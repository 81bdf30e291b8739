package engine

import (
	"strings"
)

// OperationalPrefix begins the event types that the router itself publishes, to the account
// concerned. Users may not publish them, and "*" does not match them: a subscription to all events
// of a shop did not ask for these.
const OperationalPrefix = "switchhook."

// Operational reports whether an event type is the router's own.
func Operational(eventType string) bool { return strings.HasPrefix(eventType, OperationalPrefix) }
