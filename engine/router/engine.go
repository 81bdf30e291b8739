// Package engine is Switchhook's domain: events come in, are matched to subscriptions,
// stored in one durable commit, transformed, signed and POSTed, retried and recorded.
//
// The way of an event is publish.go → match.go → queue.go → deliver.go (transform, sign,
// send) → judge/ → record. The engine declares what it needs of others (Store,
// Transformer) and knows no HTTP framework, no database and no script engine.
package router
