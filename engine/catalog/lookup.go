package catalog

import (
	"context"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/scripts/filter"
	"switchhook/scripts/scripteval"
)

// Lookup returns the subscription with an id, of any account; nil if there is none.
func (c *Catalog) Lookup(id engine.ID) *engine.Subscription { return c.registry.subscription("", id) }

// LookupOf returns a subscription of an account; nil if there is none.
func (c *Catalog) LookupOf(account string, id engine.ID) *engine.Subscription {
	return c.registry.subscription(account, id)
}

// Compiled returns a compiled subscription; nil if there is none.
func (c *Catalog) Compiled(id engine.ID) *CompiledSubscription {
	return c.registry.compiledSubscription(id)
}

// AllCompiled returns all compiled subscriptions.
func (c *Catalog) AllCompiled() []*CompiledSubscription {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	list := make([]*CompiledSubscription, 0, len(c.registry.compiled))
	for _, s := range c.registry.compiled {
		list = append(list, s)
	}
	return list
}

// Candidates returns the active subscriptions of an account whose event types include eventType,
// each once, in any order.
func (c *Catalog) Candidates(account, eventType string) []*CompiledSubscription {
	return c.index.candidates(account, eventType)
}

// LookupEventType returns a registered event type with its compiled schema; nil if there is none.
func (c *Catalog) LookupEventType(name string) *registeredEventType {
	return c.registry.eventType(name)
}

// Schemas returns the JSON Schemas of the event types that patterns name.
func (c *Catalog) Schemas(patterns []string) [][]byte { return c.registry.schemas(patterns) }

// Count returns the number of subscriptions.
func (c *Catalog) Count() int { return c.registry.count() }

// NewID returns an id that no other object has.
func (c *Catalog) NewID() engine.ID { return c.ids.Next() }

// CompileFilter compiles a filter, or returns it from the cache.
func (c *Catalog) CompileFilter(source string) (*filter.Filter, error) {
	return c.filters.Compile(source)
}

// CompileScript compiles a source of a script. Errors: CodeInvalid, CodeUnavailable.
func (c *Catalog) CompileScript(ctx context.Context, s *engine.Script, source string) (scripteval.Scripts, error) {
	filterSource, transformSource := source, ""
	if s.Kind == engine.KindTransform {
		filterSource, transformSource = "", source
	}
	compiled, err := c.CompileScripts(ctx, s.Account, filterSource, transformSource)
	switch {
	case err != nil:
		return compiled, ScriptError("source", err)
	case compiled.FilterError != nil:
		return compiled, ScriptError("source", compiled.FilterError)
	case compiled.TransformError != nil:
		return compiled, ScriptError("source", compiled.TransformError)
	}
	return compiled, nil
}

// CompileScripts compiles a filter and a transform of an account for everything except deliveries.
// Errors of the scripts are in the result.
func (c *Catalog) CompileScripts(ctx context.Context, account, filterSource, transformSource string, schemas ...[]byte) (scripteval.Scripts, error) {
	return scripteval.Compile(ctx, c.Transformer(account), c.filters.Compile, filterSource, transformSource, schemas...)
}

// Transformer returns the sandbox for everything except deliveries: its slots are limited, so that
// previews and comparisons leave room for deliveries, and waiting accounts take turns.
func (c *Catalog) Transformer(account string) settings.Transformer {
	return accountTransformer{c.sandbox, account}
}

// LeastRetention returns the shortest retention of any account and of standard; ok is false if
// everything is stored forever.
func (c *Catalog) LeastRetention(standard engine.Retention) (least time.Duration, ok bool) {
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

// Retained counts the entries of the catalog's in-memory tables.
func (c *Catalog) Retained() map[string]int {
	versions := 0
	c.registry.versions.Range(func(any, any) bool { versions++; return true })
	return map[string]int{
		"versions": versions, "consents": c.accountVerificationSlots.len(), "strikes": len(c.quarantine.suspects()), "deadlines": c.expiries.len(),
	}
}

// len returns the number of accounts that have a slot.
func (p *accountSlots) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.places)
}

// len returns the number of deadlines.
func (x *expiryQueue) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.next)
}
