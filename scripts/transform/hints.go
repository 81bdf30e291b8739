package transform

import "strings"

// missing maps globals of other environments to a hint about what to use instead.
var missing = map[string]string{
	"Intl":           "there are no locales; use formatDate for dates, toFixed or toLocaleString() for numbers",
	"Buffer":         `use base64.encode and base64.decode, hex, or new TextEncoder()`,
	"process":        "there is no environment; put what is the same for all events into the script or the subscription's headers",
	"require":        "a transform can import switchhook helpers only",
	"setTimeout":     "there are no timers; a transform runs to its end at once",
	"setInterval":    "there are no timers; a transform runs to its end at once",
	"setImmediate":   "there are no timers; a transform runs to its end at once",
	"fetch":          "a transform can't use the network; its result is what is sent",
	"XMLHttpRequest": "a transform can't use the network; its result is what is sent",
	"axios":          "a transform can't use the network; its result is what is sent",
	"window":         "use globalThis",
	"global":         "use globalThis",
	"document":       "there is no page",
	"addHandler":     "write export default function transform(event, request) { … }",
	"$input":         "the event's payload is event.data",
	"$json":          "the event's payload is event.data",
	"webhook":        "the event's payload is event.data, the request is the second argument",
	"payload":        "the event's payload is event.data",
}

// withHint appends to the message of a ReferenceError what to use instead.
func withHint(message string) string {
	name, isReference := strings.CutPrefix(message, "ReferenceError: ")
	name, isMissing := strings.CutSuffix(name, " is not defined")
	if isReference && isMissing && missing[name] != "" {
		return message + ": " + missing[name]
	}
	return message
}
