package router

import (
	"context"
	"sync/atomic"

	"switchhook/engine"
	"switchhook/engine/target"
)

// Sender builds, signs and sends the request of a delivery.
type Sender struct {
	cfg     Config
	client  *target.Client
	store   engine.Store
	traces  *tracing
	catalog *Catalog
	monitor *Monitor

	tokens        eventTokens
	dialectBodies atomic.Pointer[map[string]*BodyTemplate] // see SetDialectBodies
}

func newSender(cfg Config, client *target.Client, catalog *Catalog, monitor *Monitor, traces *tracing) *Sender {
	return &Sender{cfg: cfg, client: client, store: catalog.store, traces: traces, catalog: catalog, monitor: monitor}
}

// load reads the key of the tokens from the store, or makes it.
func (s *Sender) load(ctx context.Context) (err error) {
	s.tokens, err = loadEventTokens(ctx, s.cfg.Store, s.cfg.Logger)
	return err
}
