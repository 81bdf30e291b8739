package router

import (
	"time"

	"switchhook/engine"
	"switchhook/scripts/filter"
)

// lookup returns the subscription with an id, of any account; nil if there is none.
func (c *Catalog) lookup(id engine.ID) *engine.Subscription { return c.registry.subscription("", id) }

// lookupOf returns a subscription of an account; nil if there is none.
func (c *Catalog) lookupOf(account string, id engine.ID) *engine.Subscription {
	return c.registry.subscription(account, id)
}

// compiled returns a subscription as deliveries use it; nil if there is none.
func (c *Catalog) compiled(id engine.ID) *compiledSubscription {
	return c.registry.compiledSubscription(id)
}

// allCompiled returns all subscriptions as deliveries use them.
func (c *Catalog) allCompiled() []*compiledSubscription {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	list := make([]*compiledSubscription, 0, len(c.registry.compiled))
	for _, s := range c.registry.compiled {
		list = append(list, s)
	}
	return list
}

// candidates returns the active subscriptions of an account whose event types include
// registeredEventType, each once, in no order.
func (c *Catalog) candidates(account, eventType string) []*compiledSubscription {
	return c.index.candidates(account, eventType)
}

// registeredEventType returns a registered event type with its compiled schema; nil if there is none.
func (c *Catalog) lookupEventType(name string) *registeredEventType { return c.registry.eventType(name) }

// schemas returns the JSON Schemas of the event types that patterns name.
func (c *Catalog) schemas(patterns []string) [][]byte { return c.registry.schemas(patterns) }

// count returns the number of subscriptions.
func (c *Catalog) count() int { return c.registry.count() }

// newID returns an id that no other object has.
func (c *Catalog) newID() engine.ID { return c.ids.Next() }

// compileFilter compiles a filter, or returns it from the cache.
func (c *Catalog) compileFilter(source string) (*filter.Filter, error) {
	return c.filters.Compile(source)
}

// transformer returns the sandbox for everything but deliveries: its slots are limited, so
// that previews and backtests leave room for deliveries.
func (c *Catalog) transformer() Transformer { return c.sandbox }

// leastRetention returns the shortest time for which an account keeps anything, beside
// standard; ok is false if everything is kept for ever.
func (c *Catalog) leastRetention(standard engine.Retention) (least time.Duration, ok bool) {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	consider := func(r engine.Retention) {
		for _, d := range []time.Duration{r.Succeeded, r.Dead} {
			if d > 0 && (!ok || d < least) {
				least, ok = d, true
			}
		}
	}
	consider(standard)
	for _, a := range c.registry.accounts {
		consider(a.Retention)
	}
	return least, ok
}
