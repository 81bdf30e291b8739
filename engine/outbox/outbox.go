// Package outbox collects operational events ("switchhook.…") and publishes them in the background.
package outbox

import (
	"log/slog"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/lifecycle"
)

// EventPublisher publishes the router's own events.
type EventPublisher interface {
	PublishInternal(events []engine.EventInput) error
}

// Outbox collects operational events ("switchhook.…") and publishes them in the background.
type Outbox struct {
	log       *slog.Logger
	life      *lifecycle.Lifecycle
	catalog   *catalog.Catalog
	publisher EventPublisher

	operational *operationalOutbox
}

// New returns an empty Outbox.
func New(catalog *catalog.Catalog, life *lifecycle.Lifecycle, log *slog.Logger) *Outbox {
	return &Outbox{log: log, life: life, catalog: catalog, operational: newOperationalOutbox()}
}

// Connect sets the publisher of the events.
func (o *Outbox) Connect(publisher EventPublisher) { o.publisher = publisher }
