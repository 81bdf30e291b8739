// Package outbound builds the request of a delivery (payload format or transform), signs it and
// sends it.
package outbound

import (
	"context"
	"sync/atomic"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/monitor"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/engine/telemetry"
)

// Sender builds, signs and sends the request of a delivery.
type Sender struct {
	cfg     settings.Config
	client  *target.Client
	store   engine.Store
	traces  *telemetry.Tracing
	catalog *catalog.Catalog
	monitor *monitor.Monitor

	tokens        eventTokens
	dialectBodies atomic.Pointer[map[string]*BodyTemplate] // see SetDialectBodies
}

// Parts are the parts of the router that a Sender uses.
type Parts struct {
	Traces  *telemetry.Tracing
	Client  *target.Client
	Catalog *catalog.Catalog
	Monitor *monitor.Monitor
}

// New returns a Sender; Load reads the key of its tokens.
func New(cfg settings.Config, p Parts) *Sender {
	return &Sender{cfg: cfg, store: cfg.Store, traces: p.Traces, client: p.Client, catalog: p.Catalog, monitor: p.Monitor}
}

// Load reads the key of the tokens from the store, or creates it.
func (s *Sender) Load(ctx context.Context) (err error) {
	s.tokens, err = loadEventTokens(ctx, s.cfg.Store, s.cfg.Logger)
	return err
}
