// Package outbox collects operational events ("switchhook.…") and publishes them in the background.
package outbox

import (
	"log/slog"
	"sync"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/lifecycle"

	"golang.org/x/sync/semaphore"
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

	mu         sync.Mutex
	waiting    map[string][]engine.EventInput // by account
	total      int                            // in waiting
	flushing   map[string]bool                // accounts whose events are being published
	dead       map[engine.ID]*deadLetters
	wake       chan struct{}
	slots      *semaphore.Weighted // one for each account in flushing
	publishing lifecycle.TaskGroup // one for each account in flushing
}

// New returns an empty Outbox.
func New(catalog *catalog.Catalog, life *lifecycle.Lifecycle, log *slog.Logger) *Outbox {
	return &Outbox{
		log: log, life: life, catalog: catalog,
		waiting: map[string][]engine.EventInput{}, flushing: map[string]bool{}, dead: map[engine.ID]*deadLetters{},
		wake: make(chan struct{}, 1), slots: semaphore.NewWeighted(maxConcurrentFlushes),
	}
}

// Connect sets the publisher of the events.
func (o *Outbox) Connect(publisher EventPublisher) { o.publisher = publisher }
