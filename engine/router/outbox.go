package router

import (
	"log/slog"

	"switchhook/engine"
)

// EventPublisher publishes the router's own events.
type EventPublisher interface {
	PublishInternal(events []engine.EventInput) error
}

// Outbox collects operational events ("switchhook.…") and publishes them in the background.
type Outbox struct {
	log       *slog.Logger
	life      *Lifecycle
	catalog   *Catalog
	publisher EventPublisher

	operational *operationalOutbox
}

func newOutbox(catalog *Catalog, life *Lifecycle, log *slog.Logger) *Outbox {
	return &Outbox{log: log, life: life, catalog: catalog, operational: newOperationalOutbox()}
}
