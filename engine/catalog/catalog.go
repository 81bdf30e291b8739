// Package catalog holds the configuration: accounts, keys, event types, scripts and subscriptions.
// Every change is validated, stored with its audit entry, compiled and indexed. The package knows
// neither queues nor HTTP.
//
// Lock order: registry.changes, then registry.mu, then the locks of the index, the expiry queue
// and the quarantine. registry.changes is held over the commit of a change; under registry.mu
// nothing is compiled, looked up or stored.
package catalog

import (
	"context"
	"log/slog"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"switchhook/engine"
	"switchhook/engine/lifecycle"
	"switchhook/engine/resources"
	"switchhook/engine/settings"
	"switchhook/engine/snowflake"
	"switchhook/engine/target"
	"switchhook/engine/telemetry"
	"switchhook/scripts/filter"
)

// Listener receives changes in the catalog that other parts must follow. Its methods must not call
// the catalog's changing methods: some are called while the catalog is locked.
type Listener interface {
	// SubscriptionChanged is called when a subscription was created, changed or recompiled.
	SubscriptionChanged(c *CompiledSubscription)
	// SubscriptionRemoved is called when a subscription was deleted; its deliveries become dead
	// letters with this reason.
	SubscriptionRemoved(id engine.ID, reason string)
	// SubscriptionDeactivated is called when the router deactivated a subscription.
	SubscriptionDeactivated(s *engine.Subscription)
	// TransformQuarantined is called when a subscription's transform was quarantined: its
	// deliveries wait for a new version.
	TransformQuarantined(c *CompiledSubscription, hash, reason string)
	// ScriptDeleted is called when a script was deleted.
	ScriptDeleted(id engine.ID)
}

// HealthSource returns the health of a subscription's target.
type HealthSource interface {
	Health(id engine.ID) engine.Health
}

// Catalog holds the configuration: accounts, keys, event types, scripts and subscriptions. It
// validates and stores every change, compiles subscriptions and indexes them by account and event
// type.
type Catalog struct {
	cfg       settings.Config
	client    *target.Client
	store     engine.Store // writes an audit entry with each change
	log       *slog.Logger
	metrics   *telemetry.Metrics
	life      *lifecycle.Lifecycle
	listener  Listener
	health    HealthSource
	resources *resources.Tracker

	registry *registry
	index    *subscriptionIndex
	ids      *snowflake.Maker
	filters  *filter.Cache
	sandbox  *limitedTransformer
	expiries expiryQueue

	compilations singleflight.Group // of transforms that deliveries wait for, by source
	quarantine   Quarantine

	verificationSlots        chan struct{}       // one for each verification request in flight
	accountVerificationSlots accountSlots        // limit for each account
	confirmLimiters          [1024]*rate.Limiter // by subscription id
}

// New returns an empty Catalog; Load reads it from the store.
func New(cfg settings.Config, client *target.Client, life *lifecycle.Lifecycle, metrics *telemetry.Metrics, resources *resources.Tracker, ids *snowflake.Maker) *Catalog {
	c := &Catalog{
		cfg: cfg, client: client, log: cfg.Logger, metrics: metrics, life: life, resources: resources, ids: ids,
		index:             newSubscriptionIndex(),
		filters:           filter.NewCache(filterCacheSize),
		sandbox:           newLimitedTransformer(cfg.Transformer),
		verificationSlots: make(chan struct{}, maxVerifications),
	}
	c.store = &auditingStore{cfg.Store, c}
	for i := range c.confirmLimiters {
		c.confirmLimiters[i] = rate.NewLimiter(confirmRate, confirmBurst)
	}
	return c
}

// Load reads the catalog from the store, compiles and indexes its subscriptions.
func (c *Catalog) Load(ctx context.Context) (err error) {
	if c.registry, err = loadRegistry(ctx, c.cfg.Store, c.log); err != nil {
		return err
	}
	for _, s := range c.registry.subscriptions {
		r := c.CompileSubscription(s)
		c.index.replace(nil, r)
		c.registry.compiled[s.ID] = r
		c.expiries.add(s)
	}
	return nil
}

// ForgetLoop drops the strikes of transforms that no subscription uses any longer.
func (c *Catalog) ForgetLoop() { c.life.RunEvery(lifecycle.ExpireEvery, c.ForgetUnused) }

const filterCacheSize = 20_000

const maxVerifications = 32

// Connect sets the receiver of changes and the source of health.
func (c *Catalog) Connect(listener Listener, health HealthSource) {
	c.listener, c.health = listener, health
}

// AuditedStore returns the store that writes an audit entry with each change of the catalog.
func (c *Catalog) AuditedStore() engine.Store { return c.store }
