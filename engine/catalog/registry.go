package catalog

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"switchhook/engine"
	"switchhook/engine/schema"
)

// registry is the configuration in memory. The store is written first; changes is held over both,
// so that they never differ.
type registry struct {
	changes sync.Mutex

	mu            sync.RWMutex
	subscriptions map[engine.ID]*engine.Subscription // never changed in place
	compiled      map[engine.ID]*CompiledSubscription
	duplicates    map[dedupKey][]*engine.Subscription // subscriptions that may be duplicates
	eventTypes    map[string]*registeredEventType
	keys          map[[32]byte]*credential // by the hash of their text
	keysByID      map[engine.ID]*credential
	accounts      map[string]*engine.Account   // never changed in place
	quotas        bool                         // at least one account has a quota of its own
	owned         map[string]int               // subscriptions by account, without those of targets
	scripts       map[engine.ID]*engine.Script // never changed in place
	targets       map[string]engine.ID         // TargetKey → the Inline subscription
	targetCounts  map[string]int               // their number by account
	targetCode    map[string]int               // total bytes of their transforms, by account

	// versions caches script versions as long as a compiled subscription uses them.
	versions sync.Map // ScriptRef → weak.Pointer[ScriptVersion]
}

// registeredEventType is an EventType with its schema compiled.
type registeredEventType struct {
	*engine.EventType
	CompiledSchema *schema.Schema // nil if there is none
	Broken         error          // why a stored schema can't be used
}

func loadRegistry(ctx context.Context, store engine.Store, log *slog.Logger) (*registry, error) {
	g := &registry{subscriptions: map[engine.ID]*engine.Subscription{}, compiled: map[engine.ID]*CompiledSubscription{}, duplicates: map[dedupKey][]*engine.Subscription{}, eventTypes: map[string]*registeredEventType{}, keys: map[[32]byte]*credential{}, keysByID: map[engine.ID]*credential{}, accounts: map[string]*engine.Account{}, owned: map[string]int{}, scripts: map[engine.ID]*engine.Script{}, targets: map[string]engine.ID{}, targetCounts: map[string]int{}, targetCode: map[string]int{}}
	subscriptions, err := store.Subscriptions(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range subscriptions {
		g.subscriptions[s.ID] = s
		g.countInline(s, 1)
		g.indexDuplicate(nil, s)
	}
	types, err := store.EventTypes(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		loaded := loadEventType(t)
		if loaded.Broken != nil {
			log.Error("the schema of an event type can't be used: its events are refused until it is changed", "event_type", t.Name, "error", loaded.Broken)
		}
		g.eventTypes[t.Name] = loaded
	}
	for _, t := range engine.OperationalTypes {
		built := *t
		built.Version = 1
		g.eventTypes[t.Name] = loadEventType(&built)
	}
	list, err := store.Scripts(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		g.scripts[s.ID] = s
	}
	keys, err := store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		g.setKey(k)
	}
	accounts, err := store.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		g.setAccount(a)
	}
	return g, nil
}

func (g *registry) count() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.subscriptions)
}

// subscription returns a subscription; nil if there is none or it is another account's.
func (g *registry) subscription(account string, id engine.ID) *engine.Subscription {
	g.mu.RLock()
	defer g.mu.RUnlock()
	s := g.subscriptions[id]
	if s == nil || account != "" && s.Account != account {
		return nil
	}
	return s
}

// setAccount adds or replaces an account; the caller holds mu, or g is not shared yet.
func (g *registry) setAccount(a *engine.Account) {
	g.accounts[a.Name] = a
	g.quotas = g.quotas || a.Quota != engine.Quota{}
}

func (g *registry) compiledSubscription(id engine.ID) *CompiledSubscription {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.compiled[id]
}

// setCompiled replaces the compiled form of a subscription; nil removes the subscription.
func (g *registry) setCompiled(id engine.ID, r *CompiledSubscription) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.subscriptions[id]
	if r == nil {
		if old != nil {
			g.countInline(old, -1)
		}
		g.indexDuplicate(old, nil)
		delete(g.subscriptions, id)
		delete(g.compiled, id)
		return
	}
	if old == nil {
		g.countInline(r.Sub, 1)
	}
	g.indexDuplicate(old, r.Sub)
	g.subscriptions[id], g.compiled[id] = r.Sub, r
}

func (g *registry) eventType(name string) *registeredEventType {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.eventTypes[name]
}

// schemas returns the schemas of the event types that patterns name; nil as soon as one of them has
// none, or a pattern does not determine the types.
func (g *registry) schemas(patterns []string) [][]byte {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var found [][]byte
	for _, p := range patterns {
		t := g.eventTypes[p]
		if t == nil || t.Schema == nil {
			return nil
		}
		found = append(found, t.Schema)
	}
	return found
}

// SubscriptionQuery selects subscriptions. Zero fields don't restrict.
type SubscriptionQuery struct {
	Account   string
	Event     string // subscriptions that this event type matches, or that name this pattern
	Active    *bool
	TargetURL string
	Dialect   string // the dialect that created them
	Inline    bool   // hidden subscriptions of targets instead of created ones
	Health    engine.HealthState
	After     engine.ID // above this id; the cursor of the next page
	Limit     int
}

// Subscriptions lists subscriptions, oldest first. They must not be changed.
func (c *Catalog) Subscriptions(q SubscriptionQuery) []*engine.Subscription {
	c.registry.mu.RLock()
	var found []*engine.Subscription
	for _, s := range c.registry.subscriptions {
		if s.ID > q.After && s.Inline == q.Inline && (q.Account == "" || s.Account == q.Account) &&
			(q.Active == nil || s.Active == *q.Active) && (q.TargetURL == "" || s.TargetURL == q.TargetURL) && (q.Dialect == "" || s.Dialect == q.Dialect) &&
			(q.Event == "" || slices.ContainsFunc(s.Events, func(p string) bool { return p == q.Event || engine.MatchesPattern(p, q.Event) })) {
			found = append(found, s)
		}
	}
	c.registry.mu.RUnlock()
	if q.Health != "" {
		found = slices.DeleteFunc(found, func(s *engine.Subscription) bool { return c.health.Health(s.ID).State() != q.Health })
	}
	slices.SortFunc(found, func(a, b *engine.Subscription) int { return int(a.ID - b.ID) })
	return found[:min(len(found), q.Limit)]
}

// Subscription returns a subscription of an account, or of any if account is empty. It must not be
// changed.
func (c *Catalog) Subscription(account string, id engine.ID) (*engine.Subscription, error) {
	if s := c.registry.subscription(account, id); s != nil {
		return s, nil
	}
	return nil, engine.NotFound("subscription", id.Format(engine.SubscriptionPrefix))
}

// FilterErrors returns how often a subscription's filter failed since it was last changed or the
// router started, and the last error.
func (c *Catalog) FilterErrors(id engine.ID) (count int64, last string) {
	r := c.registry.compiledSubscription(id)
	if r == nil {
		return 0, ""
	}
	if text := r.lastError.Load(); text != nil {
		last = *text
	}
	return r.filterErrors.Load(), last
}

// EventTypes lists the event types by name. They must not be changed.
func (c *Catalog) EventTypes() []*engine.EventType {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	list := make([]*engine.EventType, 0, len(c.registry.eventTypes))
	for _, t := range c.registry.eventTypes {
		list = append(list, t.EventType)
	}
	slices.SortFunc(list, func(a, b *engine.EventType) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// EventType returns an event type, which must not be changed.
func (c *Catalog) EventType(name string) (*engine.EventType, error) {
	if t := c.registry.eventType(name); t != nil {
		return t.EventType, nil
	}
	return nil, engine.NotFound("event type", name)
}
