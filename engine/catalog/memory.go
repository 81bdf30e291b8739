package catalog

import (
	"context"
	"fmt"
	"sync/atomic"

	"switchhook/engine"
	"switchhook/scripts/filter"
)

// What the catalog holds in memory is bounded by settings.Config.MaxCatalogBytes. It is estimated: the
// texts of an object, and the sizes below, which were measured.

const (
	subscriptionSize = 2560 // bytes, compiled, without texts
	scriptSize       = 512
	eventTypeSize    = 512
	// Sizes of what is compiled, per byte of its source.
	filterFactor = filter.BytesPerSourceByte
	schemaFactor = 31
	// A transform: its text, code and source map.
	transformFactor = 5
	// accountPart is the part of the memory that the objects of one account may take: a quarter.
	accountPart = 4
)

// memoryUse is the memory that the catalog's objects take. core.changes guards byAccount.
type memoryUse struct {
	byAccount map[string]int64
	total     atomic.Int64
}

func (m *memoryUse) add(account string, n int64) {
	if m.byAccount == nil {
		m.byAccount = map[string]int64{}
	}
	if m.byAccount[account] += n; m.byAccount[account] == 0 {
		delete(m.byAccount, account)
	}
	m.total.Add(n)
}

// MemoryUse returns about how many bytes of memory the catalog takes.
func (c *core) MemoryUse() int64 { return c.memory.total.Load() }

// checkMemory refuses a user's change that adds n bytes to the memory of an account's objects, if that
// is too much. Event types belong to no account. The caller holds changes. Error: CodeStorageFull.
func (c *core) checkMemory(ctx context.Context, account string, n int64) error {
	most := c.cfg.MaxCatalogBytes
	if most == 0 || n <= 0 || engine.ActorOf(ctx).Key == nil || ctx.Value(unlimited{}) != nil {
		return nil
	}
	what, have := "the router's", c.memory.total.Load()
	if own := c.memory.byAccount[account]; account != "" && own+n > most/accountPart {
		what, have, most = fmt.Sprintf("the account %s's", account), own, most/accountPart
	}
	if have+n <= most {
		return nil
	}
	return engine.StorageFull("%s subscriptions, scripts in use and event types take %d bytes of memory, and %d are allowed, so these %d more don't fit: delete subscriptions (GET /api/v1/subscriptions?inline=true lists those of targets) or scripts that are not needed, or have --max-catalog-bytes raised", what, have, most, n)
}

func sizeOfSubscription(s *engine.Subscription) int64 {
	if s == nil {
		return 0
	}
	n := len(s.Account) + len(s.TargetURL) + len(s.Reason) + len(s.Secret) + len(s.Description) + len(s.TargetKey) +
		textsIn(s.Events) + textsIn(s.VisibleHeaders) + sizeOfMap(s.Headers) + sizeOfMap(s.Metadata) + sizeOfMap(s.Names) + sizeOfJSON(s.Client)
	return subscriptionSize + int64(n) + sizeOfSource(engine.KindFilter, s.Filter) + sizeOfSource(engine.KindTransform, s.Transform)
}

// sizeOfSource returns the size of a filter or transform with what it is compiled to.
func sizeOfSource(kind engine.ScriptKind, source string) int64 {
	if kind == engine.KindFilter {
		return (1 + filterFactor) * int64(len(source))
	}
	return transformFactor * int64(len(source))
}

func sizeOfScript(s *engine.Script) int64 {
	if s == nil {
		return 0
	}
	return scriptSize + int64(len(s.Name)+len(s.Description))
}

func sizeOfEventType(t *registeredEventType) int64 {
	if t == nil {
		return 0
	}
	return eventTypeSize + int64(len(t.Name)+len(t.Description)+(1+schemaFactor)*len(t.Schema)+textsIn(t.Samples))
}

func textsIn[T string | []byte](list []T) (n int) {
	for _, text := range list {
		n += 16 + len(text)
	}
	return n
}

func sizeOfMap(m map[string]string) (n int) {
	for name, value := range m {
		n += 48 + len(name) + len(value)
	}
	return n
}

// sizeOfJSON returns about the size of a decoded JSON value.
func sizeOfJSON(v any) int {
	n := 16
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			n += 32 + len(name) + sizeOfJSON(member)
		}
	case []any:
		for _, entry := range v {
			n += sizeOfJSON(entry)
		}
	case string:
		n += len(v)
	}
	return n
}
