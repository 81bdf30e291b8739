// Package api holds the types of Switchhook's REST API and a Go client for it.
//
// The server encodes and decodes these types, and openapi.json describes them; a test holds the
// two together. The conventions of the API are those of the types:
//
//   - A member that a response may lack has omitempty or omitzero; every other member is always
//     there, with null for "none".
//   - Requests that change a resource use [Optional]: a member that is left out, a member that is
//     null (reset to the default) and a value are three things.
//   - [Duration] is a text such as "90s"; a measured time is a number whose name ends in _ms.
//   - Times are RFC 3339 in UTC.
//   - Errors are [Error], an RFC 9457 problem with a [ErrorCode] that does not change.
//
// The type of an operation's request is named after the operation: [Client.CreateKey] sends a
// [CreateKeyRequest]. The parameters of a list are in the type of the same name, as
// [ListKeysParams].
//
// # Client
//
// A [Client] repeats a request that may succeed later: after an answer with 429 or 503, when
// Retry-After says, and after a connection that broke. A POST that creates something carries an
// Idempotency-Key, so a repeat creates nothing twice. Lists are iterators that fetch page after
// page.
//
// Besides the standard library the package needs only scripts, scripts/jsonindex and
// engine/durationtext, none of which has another dependency.
package api
