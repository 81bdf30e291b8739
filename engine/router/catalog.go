package router

import (
	"context"
	"log/slog"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/engine/target"
	"switchhook/scripts/filter"
)

// Listener is told of changes in the catalog that others must follow. Its methods must not
// call back into the catalog's changing methods: some are called while the catalog is locked.
type Listener interface {
	// SubscriptionChanged is called when a subscription was made, changed or compiled anew.
	SubscriptionChanged(c *compiledSubscription)
	// SubscriptionRemoved is called when a subscription was deleted; its deliveries become
	// dead letters with that reason.
	SubscriptionRemoved(id engine.ID, reason string)
	// SubscriptionDeactivated is called when the router switched a subscription off.
	SubscriptionDeactivated(s *engine.Subscription)
	// TransformQuarantined is called when the deliveries of a subscription begin to wait for
	// a new version of its transform.
	TransformQuarantined(c *compiledSubscription, hash, reason string)
	// ScriptDeleted is called when a script was deleted.
	ScriptDeleted(id engine.ID)
}

// HealthSource tells how the target of a subscription fares.
type HealthSource interface {
	Health(id engine.ID) engine.Health
}

// Catalog holds the configuration of the router: accounts, keys, event types, scripts and
// subscriptions. It validates and stores every change, and keeps subscriptions compiled and
// indexed by account and event type.
type Catalog struct {
	cfg       Config
	client    *target.Client
	store     engine.Store // writes an audit entry with each change
	log       *slog.Logger
	metrics   *Metrics
	life      *Lifecycle
	listener  Listener
	health    HealthSource
	resources *ResourceMonitor

	registry *registry
	index    *subscriptionIndex
	ids      *snowflake.Maker
	filters  *filter.Cache
	sandbox  *limitedTransformer
	expiries expiryQueue

	compilations singleflight.Group // of transforms that deliveries wait for, by source
	quarantine   quarantine

	verificationSlots        chan struct{}       // one for each verification request in flight
	accountVerificationSlots accountPlaces       // the same of each account
	confirmLimiters          [1024]*rate.Limiter // by subscription id
}

func newCatalog(cfg Config, client *target.Client, life *Lifecycle, metrics *Metrics, resources *ResourceMonitor, ids *snowflake.Maker) *Catalog {
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

// load reads the catalog from the store, compiles and indexes its subscriptions.
func (c *Catalog) load(ctx context.Context) (err error) {
	if c.registry, err = loadRegistry(ctx, c.cfg.Store, c.log); err != nil {
		return err
	}
	for _, s := range c.registry.subscriptions {
		r := c.compileSubscription(s)
		c.index.replace(nil, r)
		c.registry.compiled[s.ID] = r
		c.expiries.add(s)
	}
	return nil
}

// forgetLoop drops the strikes of transforms that no subscription uses any more.
func (c *Catalog) forgetLoop() { c.life.runEvery(expireEvery, c.forgetUnused) }

const filterCacheSize = 20_000

const maxVerifications = 32
