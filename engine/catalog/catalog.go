// Package catalog holds the configuration: accounts, keys, event types, scripts and subscriptions.
// Every change is validated, stored with its audit entry, compiled and indexed. The package knows
// neither queues nor HTTP.
//
// Lock order: core.changes, then the lock of one table, index or queue. core.changes is held over
// the commit of a change; the other locks are held for map accesses only, and none of them while
// another one is taken.
package catalog

import (
	"context"
	"slices"
	"strings"

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

// Catalog holds the configuration. Each part below owns its state; those further down know those
// above them.
type Catalog struct {
	*core
	*AccountRegistry
	*KeyRegistry
	*EventTypeRegistry
	*ScriptRegistry
	*SubscriptionRegistry
	*ScriptActivator
	*Verifier
	*SubscriptionEditor
	*InlineTargets
}

// Parts are the parts of the router that a Catalog uses.
type Parts struct {
	Client    *target.Client // sends verification requests
	Lifecycle *lifecycle.Lifecycle
	Metrics   *telemetry.Metrics
	Resources *resources.Tracker
	IDs       *snowflake.Maker
}

// New returns an empty Catalog; Load reads it from the store.
func New(cfg settings.Config, p Parts) *Catalog {
	core := &core{cfg: cfg, store: cfg.Store, log: cfg.Logger, metrics: p.Metrics, life: p.Lifecycle, ids: p.IDs, changes: newFairLock()}
	cfg.Registerer.MustRegister(telemetry.NewPlacesCollector("changes", core.changes.turns))
	accounts := &AccountRegistry{core: core}
	core.accounts = accounts
	keys := &KeyRegistry{core: core, byText: map[[32]byte]*credential{}, byID: map[engine.ID]*credential{}}
	eventTypes := &EventTypeRegistry{core: core}
	scripts := &ScriptRegistry{core: core, users: map[engine.ScriptRef]int{}, filters: filter.NewCache(filterCacheBytes), sandbox: newLimitedTransformer(cfg.Transformer, cfg.Registerer)}
	subs := &SubscriptionRegistry{
		core: core, eventTypes: eventTypes, scripts: scripts,
		table: newSubscriptionTable(), index: newSubscriptionIndex(), matchTurns: newMatchTurns(cfg.Registerer),
	}
	verifier := newVerifier(core, eventTypes, subs, p)
	editor := &SubscriptionEditor{core: core, eventTypes: eventTypes, scripts: scripts, subs: subs, verifier: verifier}
	return &Catalog{
		core: core, AccountRegistry: accounts, KeyRegistry: keys, EventTypeRegistry: eventTypes,
		ScriptRegistry: scripts, SubscriptionRegistry: subs,
		ScriptActivator: &ScriptActivator{core: core, scripts: scripts, subs: subs, eventTypes: eventTypes},
		Verifier:        verifier, SubscriptionEditor: editor,
		InlineTargets: &InlineTargets{core: core, eventTypes: eventTypes, subs: subs, editor: editor},
	}
}

// Load reads the catalog from the store, compiles and indexes its subscriptions.
func (c *Catalog) Load(ctx context.Context) error {
	for _, load := range []func(context.Context) error{
		c.AccountRegistry.load, c.KeyRegistry.load, c.EventTypeRegistry.load, c.ScriptRegistry.load, c.SubscriptionRegistry.load,
	} {
		if err := load(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Connect sets the receiver of changes and the source of health.
func (c *Catalog) Connect(listener Listener, health HealthSource) {
	c.listener, c.health = listener, health
}

// NewID returns an id that no other object has.
func (c *Catalog) NewID() engine.ID { return c.core.ids.Next() }

// Audit lists entries of the audit log, newest first. next is the cursor of the rest.
func (c *Catalog) Audit(ctx context.Context, q engine.AuditQuery) (list []*engine.AuditEntry, next engine.ID, err error) {
	return c.core.store.Audit(ctx, q)
}

// Accounts lists, by name, the accounts that are configured or have a key or a subscription. They
// must not be changed.
func (c *Catalog) Accounts() []*engine.Account {
	found := c.AccountRegistry.find(func(*engine.Account) bool { return true })
	known := map[string]bool{}
	for _, a := range found {
		known[a.Name] = true
	}
	for _, name := range append(c.KeyRegistry.owners(), c.SubscriptionRegistry.table.owners()...) {
		if !known[name] {
			known[name] = true
			found = append(found, &engine.Account{Name: name})
		}
	}
	slices.SortFunc(found, func(a, b *engine.Account) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// Retained counts the entries of the catalog's in-memory tables.
func (c *Catalog) Retained() map[string]int {
	defer c.changes.lock(context.Background())()
	versions := 0
	c.versions.Range(func(any, any) bool { versions++; return true })
	return map[string]int{
		"versions": versions, "version users": len(c.users), "consents": c.verifications.len(), "strikes": len(c.quarantine.suspects()), "deadlines": c.expiries.len(),
	}
}
